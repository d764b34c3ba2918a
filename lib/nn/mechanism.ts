/** The interface every attention-like system fills: layers and models take one as an argument. */

import type { KvPages } from '../attention/index.js';
import { asTensor } from '../core/declare.js';
import type { Device } from '../core/device.js';
import type { DType } from '../core/dtype.js';
import { UnsupportedError } from '../core/errors.js';
import type { Generator } from '../core/generator.js';
import { checkObject } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { Module } from './module.js';

/**
 * What a mechanism lets an output see.
 * - `causal`: output t depends on positions up to t and on nothing later, bit for bit.
 * - `full`: every output sees every position.
 * - `leaking`: masked like `causal`, but later tokens influence which earlier ones are seen.
 */
export type Causality = 'causal' | 'full' | 'leaking';

/** A mechanism as JSON: its registered name and its options. */
export interface MechanismConfig {
  readonly name: string;
  readonly [option: string]: unknown;
}

/** What a call of {@link Mechanism.forward} knows beside queries, keys and values. */
export interface MechanismContext {
  /** i32 [B]: keys at and beyond are padding and invisible. All are visible without it. */
  lengths?: Tensor | null;
  /** i32 [B]: queries at and beyond are padding, and what they give does not matter. */
  queryLengths?: Tensor | null;
  /**
   * i32 [B, N], for self-attention: tokens see only those with the same id, as documents packed into one
   * row do. Only for mechanisms that declare `segments`.
   */
  segmentIds?: Tensor | null;
  /** Where mechanisms that draw take their numbers. Default: the device's own. */
  generator?: Generator;
}

/** Sizes a decoding state is made for. */
export interface StateShape {
  /** Sequences decoded together. */
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Width of a head's queries and keys. */
  readonly keyDim: number;
  /** Width of a head's values. */
  readonly valueDim: number;
  /** Most tokens of a sequence; states of constant size ignore it. */
  readonly capacity: number;
  readonly dtype: DType;
  readonly device: Device;
  /** Where keys and values are kept; by default in memory for the whole capacity. */
  readonly pages?: KvPages | null;
}

/** The rotary embedding of queries and keys, as `rotary` takes it. */
export interface RotaryTurns {
  readonly dim: number;
  readonly base: number;
  readonly interleaved: boolean;
}

/** @internal Refuses what a mechanism's forward call or step cannot be given. */
export function checkHeads(
  mechanism: string,
  heads: Readonly<Record<string, Tensor>>,
  context: MechanismContext,
): void {
  for (const [name, t] of Object.entries(heads)) asTensor(mechanism, name, t);
  checkObject(mechanism, 'context', context, '{ lengths }, say');
}

/** @internal Refuses what tells no sizes. */
export function checkShape(mechanism: string, shape: StateShape | FlopShape): void {
  checkObject(mechanism, 'shape', shape, '{ batch, heads, keyDim, valueDim }');
}

/** What a mechanism remembers of the tokens decoded so far. Survives `tidy`. */
export interface MechanismState {
  /** Memory it holds, in bytes. */
  readonly byteLength: number;
  /**
   * Makes room for a step of `count` tokens that is about to be recorded, where room is found by the host;
   * a step that is not recorded does it itself.
   * @throws OutOfMemoryError when there is none; nothing has changed then
   */
  prepare?(count: number): void;
  /**
   * The same before each replay, in which nothing happens on the host.
   * @throws OutOfMemoryError when there is no room; nothing has changed then
   */
  replaying?(count: number): void;
  /**
   * Row i continues what row `parents[i]` was, for beam search.
   * @param parents i32 [batch]
   */
  reorder(parents: Tensor): void;
  /** Forgets everything, keeping the memory. */
  reset(): void;
  dispose(): void;
}

/**
 * An attention-like system on heads: [B, H, N, D] in, [B, H, N, Dv] out. Parameters and buffers are
 * those of a {@link Module}.
 *
 * @example
 * const mechanism = new SoftmaxAttention({ causal: true });
 * const [q, k, v] = [normal([2, 4, 10, 16]), normal([2, 4, 10, 16]), normal([2, 4, 10, 16])];
 * const y = mechanism.forward(q, k, v);
 */
export abstract class Mechanism extends Module {
  /** Name under which it is registered. */
  abstract readonly name: string;
  abstract readonly causality: Causality;
  /** Whether a call draws random numbers. */
  readonly random: boolean = false;
  /** Whether {@link initState} and {@link step} exist. */
  readonly decodes: boolean = false;
  /**
   * Whether {@link step} may be recorded by `device.capture` and replayed: all that changes from step to
   * step is read from device tensors, and the state keeps its tensors. Steps of mechanisms that leave
   * it false are enqueued anew for each token.
   */
  readonly capturable: boolean = false;
  /** Whether there may be fewer key heads than query heads. */
  readonly groupedHeads: boolean = false;
  /** Whether keys may be of another length than queries. */
  readonly cross: boolean = false;
  /** Whether it honours `segmentIds`. */
  readonly segments: boolean = false;
  /** Whether queries are their own keys: a layer then projects none, and gives the queries for them. */
  readonly sharedKeys: boolean = false;
  /** Whether {@link step} takes `turns`. */
  readonly rotates: boolean = false;
  /** Whether {@link initState} takes `pages`. */
  readonly paged: boolean = false;

  /**
   * @param q [B, H, N, D], any strides
   * @param k [B, Hkv, M, D]
   * @param v [B, Hkv, M, Dv]
   * @returns [B, H, N, Dv]
   */
  abstract forward(q: Tensor, k: Tensor, v: Tensor, context?: MechanismContext): Tensor;

  /** Its options, fit for JSON: `mechanismFrom(mechanism.config())` makes another like it. */
  abstract config(): MechanismConfig;

  /** Floating-point operations of one forward call, a multiply-add counting two. */
  abstract flops(queries: number, keys: number, shape: FlopShape): number;

  /**
   * A loss to add to the model's, computed by the last forward call in training; null for none.
   * Asking takes it: a second call gives null.
   */
  auxiliaryLoss(): Tensor | null {
    return null;
  }

  /**
   * An empty state for decoding.
   * @throws UnsupportedError when the mechanism cannot decode
   */
  initState(_shape: StateShape): MechanismState {
    throw this.cannotDecode();
  }

  /**
   * Takes T further tokens of every sequence into `state` and returns their outputs, equal to those
   * of `forward` over the whole sequence. T is 1 while generating, more for a prompt.
   *
   * @param q [B, H, T, D], and so on for k and v
   * @param turns queries and keys are not rotated yet: the mechanism does it, at the positions that its
   *   state counts. Only for mechanisms that declare `rotates`
   * @returns [B, H, T, Dv]
   * @throws UnsupportedError when the mechanism cannot decode
   */
  step(
    _q: Tensor,
    _k: Tensor,
    _v: Tensor,
    _state: MechanismState,
    _turns?: RotaryTurns | null,
  ): Tensor {
    throw this.cannotDecode();
  }

  private cannotDecode(): UnsupportedError {
    return new UnsupportedError(`${this.name} has no step: it cannot decode token by token`, {
      operator: this.name,
      remedy: 'Run forward over the whole sequence, or use a mechanism whose `decodes` is true',
    });
  }
}

/** Head counts and widths for {@link Mechanism.flops}. */
export interface FlopShape {
  readonly batch: number;
  readonly heads: number;
  readonly keyDim: number;
  readonly valueDim: number;
}
