import { noGrad } from '../core/autograd/index.js';
import { arange } from '../core/create.js';
import { asTensor } from '../core/declare.js';
import type { Device } from '../core/device.js';
import { ArgumentError } from '../core/errors.js';
import { checkSizes } from '../core/options.js';
import { assign, full } from '../core/primitives.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { reshape } from '../core/views.js';
import { add } from '../dense/index.js';
import type { KeyValue } from './layers/multi-head-attention.js';
import type { MechanismState } from './mechanism.js';

/**
 * What a network remembers while it decodes token by token: the state of each layer's mechanism, the
 * projected memory where there is one, and on the device the number of tokens so far. Survives `tidy`.
 */
export class DecodingState {
  /** i32 [batch]: tokens taken in so far. */
  readonly positions: Tensor;
  readonly memories: readonly KeyValue[];
  readonly memoryLengths: Tensor | null;
  readonly #layers: readonly MechanismState[];
  #length = 0;

  /** @internal Made by the models' `initState`. */
  constructor(
    layers: readonly MechanismState[],
    readonly batch: number,
    readonly capacity: number,
    device: Device,
    memories: readonly KeyValue[] = [],
    memoryLengths: Tensor | null = null,
  ) {
    this.#layers = layers;
    this.positions = keep(full([batch], 0, { dtype: 'i32', device }));
    this.memories = memories.map(({ k, v }) => ({ k: keep(k), v: keep(v) }));
    this.memoryLengths = memoryLengths && keep(memoryLengths.detach());
  }

  /** Tokens of each sequence taken in so far. */
  get length(): number {
    return this.#length;
  }

  /** Memory it holds, in bytes. */
  get byteLength(): number {
    const layers = this.#layers.reduce((n, layer) => n + layer.byteLength, 0);
    return this.memories.reduce((n, { k, v }) => n + k.byteLength + v.byteLength, layers);
  }

  /** @internal State of layer i. */
  layer(i: number): MechanismState {
    return this.#layers[i] as MechanismState;
  }

  /**
   * @internal Checks that `count` further tokens of `batch` rows fit.
   * @throws ArgumentError when they do not
   */
  reserve(operator: string, ids: Tensor): void {
    const [batch, count] = asTensor(operator, 'ids', ids).shape;
    if (ids.rank !== 2 || batch !== this.batch) {
      const remedy = `Give [${this.batch}, T], the batch the state was made for`;
      throw new ArgumentError('ERR_SHAPE', operator, 'ids', ids.toString(), remedy);
    }
    this.#checkRoom(operator, 'ids', ids.toString(), count as number);
  }

  /**
   * Makes room for a step of `count` tokens that is about to be recorded by `device.capture`. Steps that are
   * not recorded do it themselves.
   *
   * @throws OutOfMemoryError when too few pages are free
   */
  prepare(count: number): void {
    for (const layer of this.#layers) layer.prepare?.(count);
  }

  /**
   * Counts `count` tokens that the replay of a recorded step takes in: it advances `positions` and the
   * layers' states, but nothing on the host.
   *
   * @throws ArgumentError when there is no room for them, OutOfMemoryError when too few pages are free
   */
  replaying(count: number): void {
    checkSizes('DecodingState.replaying', { count }, 0);
    this.#checkRoom('DecodingState.replaying', 'count', String(count), count);
    for (const layer of this.#layers) layer.replaying?.(count);
    this.#length += count;
  }

  #checkRoom(operator: string, argument: string, given: string, count: number): void {
    if (this.#length + count <= this.capacity) return;
    throw new ArgumentError(
      'ERR_SHAPE',
      operator,
      argument,
      `${given} after ${this.#length} tokens`,
      `The state has room for ${this.capacity}; make it with a larger capacity`,
    );
  }

  /** @internal i32 [batch, count]: positions of the next tokens. */
  upcoming(count: number): Tensor {
    const first = reshape(this.positions, [-1, 1]);
    return count === 1 ? first : add(first, arange(0, count, 1, { device: first.device }));
  }

  /** @internal Counts `count` further tokens. */
  advance(count: number): void {
    this.#length += count;
    noGrad(() => {
      const next = add(this.positions, count);
      assign(this.positions, next);
      next.dispose();
    });
  }

  /**
   * Row i continues what row `parents[i]` was, for beam search. Rows may only change places among
   * those that share a memory.
   *
   * @param parents i32 [batch]
   */
  reorder(parents: Tensor): void {
    asTensor('DecodingState.reorder', 'parents', parents);
    for (const layer of this.#layers) layer.reorder(parents);
  }

  /** Forgets the tokens and keeps memory and buffers. */
  reset(): void {
    for (const layer of this.#layers) layer.reset();
    const zero = full([], 0, { dtype: 'i32', device: this.positions.device });
    assign(this.positions, zero);
    zero.dispose();
    this.#length = 0;
  }

  dispose(): void {
    for (const layer of this.#layers) layer.dispose();
    for (const { k, v } of this.memories) {
      k.dispose();
      v.dispose();
    }
    this.positions.dispose();
    this.memoryLengths?.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
