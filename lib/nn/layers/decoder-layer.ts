import { checkFlags, checkOptions } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import type { Mechanism, MechanismState } from '../mechanism.js';
import { SoftmaxAttention } from '../mechanisms/softmax.js';
import { Module } from '../module.js';
import {
  type EncoderLayerOptions,
  type LayerContext,
  layerParts,
  transformerLayerOptionNames,
} from './encoder-layer.js';
import type { FeedForward } from './feed-forward.js';
import type { KeyValue, MultiHeadAttention } from './multi-head-attention.js';
import type { Norm } from './norm.js';
import { normalised, type Stream, settled } from './stream.js';

/** Options of {@link DecoderLayer}; `mechanism` is that of self-attention, by default causal. */
export interface DecoderLayerOptions extends EncoderLayerOptions {
  /** What attends to the memory. Default `new SoftmaxAttention()`. */
  crossMechanism?: Mechanism;
}

/** What a decoder layer is told beside its inputs. */
export interface DecoderContext extends LayerContext {
  /** i32 [B]: how many tokens of each memory are no padding. Default all. */
  memoryLengths?: Tensor | null;
}

/**
 * Causal self-attention, attention to a memory, and a feed-forward part: PyTorch's
 * `TransformerDecoderLayer` with its parameter names.
 *
 * @example
 * const layer = new DecoderLayer({ dModel: 64, heads: 4 });
 * const y = layer.forward(ones([2, 5, 64]), ones([2, 9, 64]));
 */
export class DecoderLayer extends Module {
  static override readonly stateNames = { feedForward: '' };
  readonly selfAttn: MultiHeadAttention;
  readonly multiheadAttn: MultiHeadAttention;
  readonly feedForward: FeedForward;
  readonly norm1: Norm;
  readonly norm2: Norm;
  readonly norm3: Norm;
  readonly normFirst: boolean;

  constructor(options: DecoderLayerOptions) {
    super();
    checkOptions('DecoderLayer', options, [...transformerLayerOptionNames, 'crossMechanism']);
    const parts = layerParts('DecoderLayer', options);
    const { mechanism = new SoftmaxAttention({ causal: true }), rotary = null } = options;
    const { crossMechanism = new SoftmaxAttention(), normFirst = false } = options;
    checkFlags('DecoderLayer', { normFirst });
    this.selfAttn = parts.attention({ mechanism, rotary });
    this.multiheadAttn = parts.attention({ mechanism: crossMechanism });
    this.feedForward = parts.feedForward();
    this.norm1 = parts.norm();
    this.norm2 = parts.norm();
    this.norm3 = parts.norm();
    this.normFirst = normFirst;
  }

  /**
   * @param x [B, N, dModel]
   * @param memory [B, M, dModel], or what `multiheadAttn.keyValues` made of it
   */
  forward(x: Tensor, memory: Tensor | KeyValue, context: DecoderContext = {}): Tensor {
    return settled(this.advance({ x, delta: null }, memory, context));
  }

  /** @internal As forward, leaving the last sum to the next norm. */
  advance(stream: Stream, memory: Tensor | KeyValue, context: DecoderContext = {}): Stream {
    const { lengths = null, memoryLengths = null } = context;
    return this.#through(
      stream,
      (x) => this.selfAttn.forward(x, { lengths }),
      memory,
      memoryLengths,
    );
  }

  /** Empty state of self-attention for decoding. */
  initState(batch: number, capacity: number): MechanismState {
    return this.selfAttn.initState(batch, capacity);
  }

  /** @internal T further tokens; `positions` i32 [B, T] are theirs. */
  step(
    stream: Stream,
    memory: KeyValue,
    memoryLengths: Tensor | null,
    state: MechanismState,
    positions: Tensor,
  ): Stream {
    const attend = (x: Tensor) => this.selfAttn.step(x, state, positions);
    return this.#through(stream, attend, memory, memoryLengths);
  }

  #through(
    stream: Stream,
    attend: (x: Tensor) => Tensor,
    memory: Tensor | KeyValue,
    lengths: Tensor | null,
  ): Stream {
    const cross = (x: Tensor) => this.multiheadAttn.forward(x, { memory, lengths });
    if (this.normFirst) {
      const a = normalised(this.norm1, stream);
      const b = normalised(this.norm2, { x: a.sum, delta: attend(a.y) });
      const c = normalised(this.norm3, { x: b.sum, delta: cross(b.y) });
      return { x: c.sum, delta: this.feedForward.forward(c.y) };
    }
    const x = settled(stream);
    const a = normalised(this.norm1, { x, delta: attend(x) }).y;
    const b = normalised(this.norm2, { x: a, delta: cross(a) }).y;
    return {
      x: normalised(this.norm3, { x: b, delta: this.feedForward.forward(b) }).y,
      delta: null,
    };
  }
}
