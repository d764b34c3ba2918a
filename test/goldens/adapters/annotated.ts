import {
  crossEntropy,
  Decoder,
  Embedding,
  Encoder,
  Linear,
  logSoftmax,
  Module,
  mul,
  SinusoidalPositions,
  type Tensor,
} from 'longspan';
import type { Adapter, CaseInputs } from '../adapter.js';
import { computed, lengthsOf } from '../modules.js';
import { PaddingAttends } from './seq2seq.js';

interface Params {
  V: number;
  d: number;
  heads: number;
  layers: number;
  ff: number;
  pad: number;
  label_smoothing: number;
}

/** "The Annotated Transformer" in this package's layers. */
class Annotated extends Module {
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  readonly source: Embedding;
  readonly target: Embedding;
  readonly positions: SinusoidalPositions;
  readonly generator: Linear;

  constructor({ V, d, heads, layers, ff }: Params, dtype: CaseInputs['dtype']) {
    super();
    const shared = {
      ...{ dModel: d, heads, layers, feedForward: ff, dtype, eps: 1e-6 },
      ...{ norm: 'layerUnbiased' as const, normFirst: true },
    };
    this.encoder = new Encoder(shared);
    this.decoder = new Decoder({ ...shared, mechanism: () => new PaddingAttends() });
    this.source = new Embedding(V, d, { dtype });
    this.target = new Embedding(V, d, { dtype });
    this.positions = new SinusoidalPositions(16, d, { dtype });
    this.generator = new Linear(d, V, { dtype });
  }

  embed(ids: Tensor, table: Embedding): Tensor {
    return this.positions.forward(mul(table.forward(ids), Math.sqrt(table.width)));
  }
}

/** Our name of one of theirs; the three input projections of an attention are one parameter of ours. */
function ours(name: string): { name: string; part?: number } {
  const base = name
    .replace(/^src_embed\.0\.lut/, 'source')
    .replace(/^tgt_embed\.0\.lut/, 'target')
    .replace(/^generator\.proj/, 'generator')
    .replace('feed_forward.w_', 'linear')
    .replace('src_attn', 'multihead_attn')
    .replace('linears.3', 'out_proj')
    .replace(/sublayer\.(\d)\.norm/, (_, i) => `norm${Number(i) + 1}`)
    .replace('a_2', 'weight')
    .replace('b_2', 'bias');
  const packed = /^(.*)\.linears\.([012])\.(weight|bias)$/.exec(base);
  return packed
    ? { name: `${packed[1]}.in_proj_${packed[3]}`, part: Number(packed[2]) }
    : { name: base };
}

function load(inputs: CaseInputs, model: Module): void {
  model.to(inputs.device);
  const dict: Record<string, number[]> = {};
  for (const full of inputs.names('in.w.')) {
    const { name } = ours(full.slice(5)); // parts come in their order
    dict[name] = [...(dict[name] ?? []), ...inputs.host(full).data];
  }
  const shapes = model.stateDict();
  model.loadStateDict(
    Object.fromEntries(
      Object.entries(dict).map(([name, x]) => [name, inputs.make(x, shapes[name]?.shape ?? [])]),
    ),
  );
}

export const annotatedSeq2seq: Adapter = {
  mechanism: 'transformer_seq2seq_annotated_transformer',
  run(inputs) {
    const params = inputs.params<Params>();
    const model = new Annotated(params, inputs.dtype);
    load(inputs, model);
    const ids = (name: string) => inputs.tensor(`in.${name}`);
    const memoryLengths = paddedLengths(inputs, 'src', params.pad);
    const lengths = paddedLengths(inputs, 'tgt_in', params.pad);
    const memory = model.encoder.forward(model.embed(ids('src'), model.source), {
      lengths: memoryLengths,
    });
    const target = model.embed(ids('tgt_in'), model.target);
    const hidden = model.decoder.forward(target, memory, { lengths, memoryLengths });
    const logits = model.generator.forward(hidden);
    const loss = crossEntropy(logits, ids('tgt_out'), {
      ...{ ignoreIndex: params.pad, labelSmoothing: params.label_smoothing },
      smoothingOver: 'others',
    });
    const outputs = {
      'out.hidden': hidden,
      'out.log_probs': logSoftmax(logits),
      'out.loss': loss,
    };
    const leaves = Object.fromEntries(model.namedParameters());
    const all = computed(inputs, outputs, leaves);
    const gradients: Record<string, Tensor> = {};
    for (const full of inputs.names('in.w.')) {
      const { name, part } = ours(full.slice(5));
      const gradient = all[name] as Tensor;
      const rows = gradient.dim(0) / 3;
      gradients[full.replace(/^in/, 'grad')] =
        part === undefined ? gradient : gradient.slice(0, part * rows, (part + 1) * rows);
    }
    return { ...outputs, ...gradients };
  },
};

/** i32 [B] lengths of rows of ids that end in padding. */
function paddedLengths(inputs: CaseInputs, name: string, pad: number): Tensor {
  return lengthsOf(inputs, `in.${name}`, pad);
}
