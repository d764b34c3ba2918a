/** GPT-2 (Radford et al. 2019) as configurations of the language model. */
import { CheckpointError } from '../core/errors.js';
import { checkOptions, checkText } from '../core/options.js';
import { readSafetensorsFile } from '../core/safetensors/index.js';
import { loadModule } from '../nn/files.js';
import { type LayerOptions, layerOptionNames, layerOptions } from '../nn/layers/options.js';
import { TransformerLM, type TransformerLMOptions } from './transformer-lm.js';

/** What all sizes of GPT-2 share. */
const family = {
  vocabSize: 50257,
  maxLength: 1024,
  activation: 'geluTanh',
  norm: 'layer',
  position: 'learned',
  tiedEmbeddings: true,
  bias: true,
  dropout: 0.1,
} as const;

/** Options of {@link TransformerLM} for the published sizes. */
export const gpt2Presets = {
  small: { ...family, dModel: 768, layers: 12, heads: 12 },
  medium: { ...family, dModel: 1024, layers: 24, heads: 16 },
  large: { ...family, dModel: 1280, layers: 36, heads: 20 },
  xl: { ...family, dModel: 1600, layers: 48, heads: 25 },
} as const satisfies Record<string, TransformerLMOptions>;

const parts: readonly [pattern: RegExp, name: string][] = [
  [/^wte\.weight$/, 'embedding.weight'],
  [/^wpe\.weight$/, 'positions.weight'],
  [/^ln_f\.(weight|bias)$/, 'norm.$1'],
  [/^lm_head\.weight$/, 'lm_head.weight'],
  [/^h\.(\d+)\.ln_([12])\.(weight|bias)$/, 'layers.$1.norm$2.$3'],
  [/^h\.(\d+)\.attn\.c_attn\.(weight|bias)$/, 'layers.$1.self_attn.in_proj_$2'],
  [/^h\.(\d+)\.attn\.c_proj\.(weight|bias)$/, 'layers.$1.self_attn.out_proj.$2'],
  [/^h\.(\d+)\.mlp\.c_fc\.(weight|bias)$/, 'layers.$1.linear1.$2'],
  [/^h\.(\d+)\.mlp\.c_proj\.(weight|bias)$/, 'layers.$1.linear2.$2'],
];

/**
 * The name in {@link TransformerLM} of a GPT-2 parameter (`transformer.h.0.attn.c_attn.weight`, with or
 * without the prefix); null for the masks that some files hold, the name itself where it is none.
 *
 * @example
 * gpt2Name('transformer.h.0.mlp.c_fc.weight'); // 'layers.0.linear1.weight'
 */
export function gpt2Name(name: string): string | null {
  checkText('gpt2Name', 'name', name);
  const bare = name.replace(/^transformer\./, '');
  if (/^h\.\d+\.attn\.(masked_)?bias$/.test(bare)) return null;
  for (const [pattern, to] of parts) if (pattern.test(bare)) return bare.replace(pattern, to);
  return name;
}

/** Options of {@link loadGpt2}. */
export interface LoadGpt2Options extends LayerOptions {
  /** Default dModel / 64, as in all published sizes. */
  heads?: number;
}

/**
 * Makes a model from a safetensors file with GPT-2's parameter names; sizes come from the shapes.
 * Matrices may lie as [in, out] (the published files) or as [out, in].
 *
 * @throws CheckpointError when the file holds no GPT-2
 * @example
 * import { tmpdir } from 'node:os';
 * const path = `${tmpdir()}/gpt2.safetensors`;
 * await saveTensors(path, { 'wte.weight': ones([50257, 768]) });
 * await loadGpt2(path).catch((error) => console.log(error.message)); // it holds only one of the tables
 */
export async function loadGpt2(
  path: string,
  options: LoadGpt2Options = {},
): Promise<TransformerLM> {
  checkOptions('loadGpt2', options, ['heads', ...layerOptionNames]);
  const shapes = new Map<string, readonly number[]>();
  {
    await using file = await readSafetensorsFile(path);
    for (const [name, { shape }] of file.tensors) {
      const to = gpt2Name(name);
      if (to !== null) shapes.set(to, shape);
    }
  }
  const find = (name: string): readonly number[] => {
    const shape = shapes.get(name);
    if (shape?.length === 2) return shape;
    throw new CheckpointError(`loadGpt2: '${path}' holds no GPT-2: it has no matrix for ${name}`, {
      operator: 'loadGpt2',
      argument: 'path',
      value: path,
      remedy: 'Give a file with names such as h.0.attn.c_attn.weight',
    });
  };
  const [vocabSize, dModel] = find('embedding.weight') as [number, number];
  const [maxLength] = find('positions.weight') as [number, number];
  const transposed = find('layers.0.self_attn.in_proj_weight')[0] === dModel;
  const feedForward = find('layers.0.linear1.weight')[transposed ? 1 : 0] as number;
  let layers = 0;
  while (shapes.has(`layers.${layers}.norm1.weight`)) layers++;
  const model = new TransformerLM({
    ...family,
    ...layerOptions(options),
    ...{ vocabSize, dModel, layers, maxLength, feedForward },
    heads: options.heads ?? dModel / 64,
    tiedEmbeddings: !shapes.has('lm_head.weight'),
  });
  await loadModule(path, model, {
    rename: (name) => {
      const to = gpt2Name(name);
      const matrix = to !== null && /(in_proj_|out_proj\.|linear\d\.)weight$/.test(to);
      return matrix ? { name: to, transposed } : to;
    },
  });
  return model;
}
