/** The Reformer (Kitaev, Kaiser and Levskaya 2020) as a language model and as an encoder. */

import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkFlags, checkList, checkObject, checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { Dropout } from '../nn/layers/dropout.js';
import { Embedding } from '../nn/layers/embedding.js';
import { type FeedForwardActivation, feedForwardActivations } from '../nn/layers/feed-forward.js';
import {
  checkChoice,
  checkProbability,
  checkSizes,
  type LayerOptions,
  layerOptionNames,
  layerOptions,
} from '../nn/layers/options.js';
import { AxialPositions } from '../nn/layers/positions.js';
import { Encoder } from '../nn/layers/stacks.js';
import type { MechanismConfig } from '../nn/mechanism.js';
import { mechanismFrom } from '../nn/mechanisms/registry.js';
import { Module } from '../nn/module.js';
import {
  TransformerLM,
  type TransformerLMConfig,
  type TransformerLMOptions,
} from './transformer-lm.js';

/** What a layer of a Reformer attends by: hashing, or a window of neighbours. */
export type ReformerLayer = 'lsh' | 'local';

/** Options that make the mechanisms of a Reformer. */
export interface ReformerAttention {
  /** Kinds of layers, repeated to their number. Default `['lsh']`. */
  pattern?: readonly ReformerLayer[];
  /** Sorted positions of a chunk, which sees itself and the one before it; the window of local layers. Default 64. */
  chunk?: number;
  /** Independent hashes. Default 4. */
  rounds?: number;
  /** Hashes in `eval()`, where more see more without training anew. Default `rounds`. */
  evalRounds?: number;
  /** An even number of buckets, or even factors of it. Default: buckets of half a chunk on average. */
  buckets?: number | readonly number[];
}

/** Options of {@link Reformer}: those of {@link TransformerLM} with other defaults, and its attention. */
export interface ReformerOptions extends TransformerLMOptions, ReformerAttention {}

const attentionNames = ['pattern', 'chunk', 'rounds', 'evalRounds', 'buckets'] as const;

/**
 * A Reformer language model: attention among tokens whose queries fall into the same bucket of a random
 * hash, reversible layers, axial positions. By default layers are reversible, norms are layer norms, the
 * activation is `gelu`, projections have biases, and positions are those of a grid as square as may be,
 * whose first axis has a quarter of the channels.
 *
 * @example
 * const model = new Reformer({
 *   ...{ vocabSize: 256, dModel: 64, layers: 2, heads: 2, maxLength: 1024 },
 *   ...{ chunk: 32, rounds: 2 },
 * });
 * model.forward(zeros([1, 100], { dtype: 'i32' })).shape; // [1, 100, 256]
 */
export class Reformer extends TransformerLM {
  constructor(options: ReformerOptions) {
    super(languageModelOptions(options));
  }

  static override fromConfig(config: TransformerLMConfig, options: LayerOptions = {}): Reformer {
    checkOptions('Reformer.fromConfig', options, layerOptionNames);
    return new Reformer({ ...config, ...options });
  }
}

const paper = { dModel: 1024, heads: 8, feedForward: 4096 } as const;

/**
 * Published configurations. `enwik8` and `imagenet64` are those of the authors' code (trax), `duplication` is
 * the paper's synthetic task. The vocabulary is bytes, or the 128 symbols of that task.
 */
export const reformerPresets = {
  enwik8: {
    ...paper,
    ...{ vocabSize: 256, layers: 12, maxLength: 65536, dropout: 0.2, feedForwardChunk: 4096 },
    ...{ pattern: ['local', 'local', 'lsh', 'local'], chunk: 256, buckets: [16, 32], rounds: 2 },
    axial: { shape: [128, 512], dims: [256, 768] },
  },
  imagenet64: {
    ...paper,
    ...{ vocabSize: 256, layers: 6, maxLength: 12288, feedForwardChunk: 4096 },
    ...{ pattern: ['lsh'], chunk: 128, buckets: 192, rounds: 1 },
    axial: { shape: [64, 64, 3], dims: [384, 384, 256] },
  },
  duplication: {
    ...{ vocabSize: 128, dModel: 256, heads: 4, feedForward: 256, layers: 1, maxLength: 1024 },
    ...{ pattern: ['lsh'], chunk: 32, buckets: 64, rounds: 4 },
  },
} as const satisfies Record<string, ReformerOptions>;

function languageModelOptions(options: ReformerOptions): TransformerLMOptions {
  checkObject('Reformer', 'options', options, '{ vocabSize, dModel, layers, heads }');
  const { pattern, chunk, rounds, evalRounds, buckets, ...rest } = options;
  const { dModel, layers, maxLength = 2048, position = 'axial' } = rest;
  checkSizes('Reformer', { dModel, layers, maxLength });
  const attention = { pattern, chunk, rounds, evalRounds, buckets };
  const named = Object.entries(attention).find(([, value]) => value !== undefined);
  if (rest.mechanism && named) {
    const remedy = 'Leave it out where mechanism says what layers do';
    throw new ArgumentError('ERR_OPTION', 'Reformer', named[0], show(named[1]), remedy);
  }
  return {
    ...{ norm: 'layer', activation: 'gelu', bias: true, reversible: true, position, maxLength },
    ...(position === 'axial' && { axial: gridOf(maxLength, dModel) }),
    ...rest,
    mechanism: rest.mechanism ?? mechanismsOf(options, layers, maxLength, true),
  };
}

/** A grid as square as may be, its last side a power of two. */
function gridOf(maxLength: number, dModel: number): { shape: number[]; dims: number[] } {
  const last = 2 ** Math.ceil(Math.log2(maxLength) / 2);
  const first = Math.max(1, Math.floor(dModel / 4));
  return { shape: [Math.ceil(maxLength / last), last], dims: [first, dModel - first] };
}

function mechanismsOf(
  options: ReformerAttention,
  layers: number,
  maxLength: number,
  causal: boolean,
): MechanismConfig[] {
  const { pattern = ['lsh'], chunk = 64, rounds = 4, evalRounds } = options;
  checkSizes('Reformer', { chunk, rounds });
  checkList('Reformer', 'pattern', pattern, "'lsh' and 'local'");
  if (pattern.length === 0)
    throw new ArgumentError('ERR_OPTION', 'Reformer', 'pattern', '[]', "Give ['lsh'], say");
  for (const kind of pattern) checkChoice('Reformer', 'pattern', kind, ['lsh', 'local']);
  const { buckets = 2 * Math.max(1, Math.round(maxLength / chunk)) } = options;
  const lsh = {
    ...{ name: 'lsh', causal, chunk, rounds, buckets },
    ...(evalRounds !== undefined && { evalRounds }),
  };
  const local = { name: 'softmax', causal, window: chunk };
  return Array.from({ length: layers }, (_, i) =>
    pattern[i % pattern.length] === 'lsh' ? lsh : local,
  );
}

/** Options of {@link ReformerEncoder}. */
export interface ReformerEncoderOptions extends LayerOptions, ReformerAttention {
  vocabSize: number;
  dModel: number;
  layers: number;
  heads: number;
  /** Default 4 dModel. */
  feedForward?: number;
  /** Default `gelu`. */
  activation?: FeedForwardActivation;
  /** Longest sequence. Default 2048. */
  maxLength?: number;
  /** The grid of positions, see `AxialPositions`. Default: as square as may be. */
  axial?: { readonly shape: readonly number[]; readonly dims?: readonly number[] };
  /** Default 0. */
  dropout?: number;
  /** Default true. */
  reversible?: boolean;
  /** Tokens of the feed-forward part at a time. Default: all at once. */
  feedForwardChunk?: number | null;
}

const encoderNames = [
  ...['vocabSize', 'dModel', 'layers', 'heads', 'feedForward', 'activation', 'maxLength', 'axial'],
  ...['dropout', 'reversible', 'feedForwardChunk', ...attentionNames, ...layerOptionNames],
];

/**
 * A Reformer encoder: every token sees those of its bucket on both sides.
 *
 * @example
 * const encoder = new ReformerEncoder({ vocabSize: 256, dModel: 64, layers: 2, heads: 2, maxLength: 256 });
 * encoder.forward(zeros([1, 100], { dtype: 'i32' })).shape; // [1, 100, 64]
 */
export class ReformerEncoder extends Module {
  static override readonly stateNames = { stack: '' };
  readonly embedding: Embedding;
  readonly positions: AxialPositions;
  readonly embeddingDropout: Dropout;
  readonly stack: Encoder;

  constructor(options: ReformerEncoderOptions) {
    super();
    checkOptions('ReformerEncoder', options, encoderNames);
    const { vocabSize, dModel, layers, heads, feedForward = 4 * dModel } = options;
    const { activation = 'gelu', maxLength = 2048, dropout = 0, reversible = true } = options;
    const { axial = gridOf(maxLength, dModel), feedForwardChunk = null } = options;
    checkSizes('ReformerEncoder', { vocabSize, dModel, layers, heads, feedForward, maxLength });
    checkChoice('ReformerEncoder', 'activation', activation, feedForwardActivations);
    checkProbability('ReformerEncoder', 'dropout', dropout);
    checkFlags('ReformerEncoder', { reversible });
    checkObject('ReformerEncoder', 'axial', axial, '{ shape, dims }');
    const made = layerOptions(options);
    const mechanisms = mechanismsOf(options, layers, maxLength, false);
    this.embedding = new Embedding(vocabSize, dModel, { ...made, std: 0.02 });
    this.positions = new AxialPositions(axial.shape, dModel, {
      ...made,
      ...(axial.dims && { dims: axial.dims }),
    });
    this.embeddingDropout = new Dropout(dropout, made.generator && { generator: made.generator });
    this.stack = new Encoder({
      ...made,
      ...{ dModel, layers, heads, feedForward, activation, dropout, reversible, feedForwardChunk },
      normFirst: true,
      mechanism: (layer) =>
        mechanismFrom(
          mechanisms[layer] as MechanismConfig,
          made.generator && { generator: made.generator },
        ),
    });
  }

  /**
   * @param ids i32 [B, N]
   * @param context.lengths i32 [B]: tokens at and beyond are padding
   * @returns [B, N, dModel]
   */
  forward(ids: Tensor, context: { lengths?: Tensor | null } = {}): Tensor {
    const x = this.positions.forward(this.embedding.forward(ids));
    return this.stack.forward(this.embeddingDropout.forward(x), context);
  }
}
