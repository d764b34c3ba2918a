import type { KvPages } from '../../attention/index.js';
import { checkFlags, checkOptions } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import type { ReversibleBlock } from '../functional/reversible.js';
import type { Mechanism, MechanismState } from '../mechanism.js';
import { Module } from '../module.js';
import { FeedForward, type FeedForwardActivation } from './feed-forward.js';
import { MultiHeadAttention } from './multi-head-attention.js';
import { makeNorm, type Norm, type NormKind, normKinds } from './norm.js';
import { checkChoice, type LayerOptions, layerOptionNames, layerOptions } from './options.js';
import type { RotaryPositions } from './rotary.js';
import { normalised, type Stream, settled } from './stream.js';

/** Options of {@link EncoderLayer}. */
export interface EncoderLayerOptions extends LayerOptions {
  dModel: number;
  heads: number;
  /** Default `heads`. */
  kvHeads?: number;
  /** Width of the feed-forward part. Default 4 dModel. */
  feedForward?: number;
  /** Default `relu`. */
  activation?: FeedForwardActivation;
  /** Default `layer`. */
  norm?: NormKind;
  /** Default 1e-5. */
  eps?: number;
  /** Norms inside the residual branches (true), or after each sum as in the paper (false, the default). */
  normFirst?: boolean;
  /** Probability of dropout on the output of each part and inside the feed-forward part. Default 0. */
  dropout?: number;
  /** Biases of projections and norms. Default true. */
  bias?: boolean;
  /** Default `new SoftmaxAttention()`. */
  mechanism?: Mechanism;
  rotary?: RotaryPositions | null;
  /** See {@link MultiHeadAttention}. Default false. */
  qkNorm?: boolean;
  /** Tokens of the feed-forward part at a time, see {@link FeedForward}. Default: all at once. */
  feedForwardChunk?: number | null;
}

/** @internal Option names shared by both kinds of layer. */
export const transformerLayerOptionNames = [
  'dModel',
  'heads',
  'kvHeads',
  'feedForward',
  'activation',
  'norm',
  'eps',
  'normFirst',
  'dropout',
  'bias',
  'mechanism',
  'rotary',
  'qkNorm',
  'feedForwardChunk',
  ...layerOptionNames,
] as const;

/** @internal The parts of a layer, by the options that layers share. */
export function layerParts(operator: string, options: EncoderLayerOptions) {
  const { dModel, heads, kvHeads = heads, feedForward = 4 * dModel, norm = 'layer' } = options;
  const { activation = 'relu', eps = 1e-5, dropout = 0, bias = true, qkNorm = false } = options;
  const { feedForwardChunk: chunk = null } = options;
  checkChoice(operator, 'norm', norm, normKinds);
  const made = layerOptions(options);
  const attention = { ...made, dModel, heads, kvHeads, dropout, bias, qkNorm };
  return {
    attention: (more: { mechanism?: Mechanism; rotary?: RotaryPositions | null }) =>
      new MultiHeadAttention({ ...attention, ...more }),
    feedForward: () =>
      new FeedForward(dModel, feedForward, { ...made, activation, dropout, bias, chunk }),
    norm: () => makeNorm(norm, dModel, { ...made, eps, bias }),
  };
}

/** What a layer is told beside its input. */
export interface LayerContext {
  /**
   * i32 [B]: how many tokens of each row are no padding. Default all. What a layer gives for padding
   * itself means nothing.
   */
  lengths?: Tensor | null;
  /** i32 [B, N]: tokens see only those with the same id, as documents packed into one row do. */
  segmentIds?: Tensor | null;
}

/**
 * Self-attention and a feed-forward part, each with residual and norm: PyTorch's
 * `TransformerEncoderLayer` with its parameter names. With a causal mechanism it is a layer of a
 * decoder-only model.
 *
 * @example
 * const layer = new EncoderLayer({ dModel: 64, heads: 4, normFirst: true, activation: 'gelu' });
 */
export class EncoderLayer extends Module {
  static override readonly stateNames = { feedForward: '' };
  readonly selfAttn: MultiHeadAttention;
  readonly feedForward: FeedForward;
  readonly norm1: Norm;
  readonly norm2: Norm;
  readonly normFirst: boolean;

  constructor(options: EncoderLayerOptions) {
    super();
    checkOptions('EncoderLayer', options, transformerLayerOptionNames);
    const parts = layerParts('EncoderLayer', options);
    const { mechanism, rotary = null, normFirst = false } = options;
    checkFlags('EncoderLayer', { normFirst });
    this.selfAttn = parts.attention({ ...(mechanism !== undefined && { mechanism }), rotary });
    this.feedForward = parts.feedForward();
    this.norm1 = parts.norm();
    this.norm2 = parts.norm();
    this.normFirst = normFirst;
  }

  /** @param x [B, N, dModel] */
  forward(x: Tensor, context: LayerContext = {}): Tensor {
    return settled(this.advance({ x, delta: null }, context));
  }

  /** @internal As forward, leaving the last sum to the next norm. */
  advance(stream: Stream, context: LayerContext = {}): Stream {
    return this.#through(stream, (x) => this.selfAttn.forward(x, context));
  }

  /**
   * @internal The layer as a reversible block, norms first: attention from the second stream to the
   * first, the feed-forward part from the first to the second.
   *
   * @param attend attention of what has been normalised
   */
  block(attend: (x: Tensor) => Tensor): ReversibleBlock {
    return {
      f: (x) => [attend(this.norm1.forward(x)), this.auxiliaryLoss()],
      g: (x) => this.feedForward.forward(this.norm2.forward(x)),
    };
  }

  /** Takes what the mechanism's last forward call in training adds to the loss; null where it adds nothing. */
  auxiliaryLoss(): Tensor | null {
    return this.selfAttn.mechanism.auxiliaryLoss();
  }

  /** Empty state for decoding, in `pages` if given. */
  initState(batch: number, capacity: number, pages: KvPages | null = null): MechanismState {
    return this.selfAttn.initState(batch, capacity, pages);
  }

  /** @internal T further tokens; `positions` i32 [B, T] are theirs. */
  step(stream: Stream, state: MechanismState, positions: Tensor): Stream {
    return this.#through(stream, (x) => this.selfAttn.step(x, state, positions));
  }

  #through(stream: Stream, attend: (x: Tensor) => Tensor): Stream {
    if (this.normFirst) {
      const a = normalised(this.norm1, stream);
      const b = normalised(this.norm2, { x: a.sum, delta: attend(a.y) });
      return { x: b.sum, delta: this.feedForward.forward(b.y) };
    }
    const x = settled(stream);
    const a = normalised(this.norm1, { x, delta: attend(x) }).y;
    return {
      x: normalised(this.norm2, { x: a, delta: this.feedForward.forward(a) }).y,
      delta: null,
    };
  }
}
