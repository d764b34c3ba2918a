/** The preallocated key/value cache of decoding. */
import { noGrad } from '../core/autograd/index.js';
import { full, tensor, zeros } from '../core/create.js';
import { asTensor, field, nativeOperator, show } from '../core/declare.js';
import type { Device } from '../core/device.js';
import type { DType } from '../core/dtype.js';
import { ArgumentError } from '../core/errors.js';
import { checkLengths, checkOptions, checkSizes } from '../core/options.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { type AppendRotary, appendTokens } from './kv-append.js';

const truncateCall = nativeOperator('kvCacheTruncate', {
  lengths: field.inout,
  limits: field.input,
});

const reorderCall = nativeOperator('kvCacheReorder', {
  keys: field.input,
  values: field.input,
  lengths: field.input,
  indices: field.input,
  newKeys: field.output,
  newValues: field.output,
  newLengths: field.output,
});

/** What a {@link KvCache} is made for. */
export interface KvCacheOptions {
  batch: number;
  /** Heads of keys and values. */
  heads: number;
  /** Most tokens a batch entry can hold. */
  capacity: number;
  /** D, the last axis of keys. */
  headDim: number;
  /** Dv, the last axis of values. Default `headDim`. */
  valueDim?: number;
  /** Default f32. */
  dtype?: DType;
  /** Default `cpu`. */
  device?: Device | string;
}

/**
 * Keys and values of the tokens seen so far, with one length per batch entry. Memory is allocated once;
 * lengths live on the device, so that decoding steps never wait and can be captured. Its tensors survive
 * `tidy`; `dispose()` frees them.
 *
 * @example
 * using cache = new KvCache({ batch: 1, heads: 2, capacity: 16, headDim: 4 });
 * cache.append(ones([1, 2, 3, 4]), ones([1, 2, 3, 4]));
 * cache.lengths.dataSync(); // 3
 */
export class KvCache {
  /** [B, H, capacity, D]; rows beyond a length hold anything. */
  keys: Tensor;
  /** [B, H, capacity, Dv] */
  values: Tensor;
  /** i32[B] */
  lengths: Tensor;
  readonly capacity: number;
  readonly #options: KvCacheOptions;

  /** @throws ArgumentError for a misspelt option or sizes that are not whole numbers from 1 on */
  constructor(options: KvCacheOptions) {
    checkOptions('KvCache', options, [
      'batch',
      'heads',
      'capacity',
      'headDim',
      'valueDim',
      'dtype',
      'device',
    ]);
    const { batch, heads, capacity, headDim, valueDim = headDim } = options;
    checkSizes('KvCache', { batch, heads, capacity, headDim, valueDim });
    this.#options = { ...options };
    this.capacity = capacity;
    [this.keys, this.values, this.lengths] = this.#allocate();
  }

  #allocate(): [Tensor, Tensor, Tensor] {
    const {
      batch,
      heads,
      capacity,
      headDim,
      valueDim = headDim,
      dtype = 'f32',
      device,
    } = this.#options;
    const on = device === undefined ? {} : { device };
    return [
      keep(zeros([batch, heads, capacity, headDim], { dtype, ...on })),
      keep(zeros([batch, heads, capacity, valueDim], { dtype, ...on })),
      keep(zeros([batch], { dtype: 'i32', ...on })),
    ];
  }

  /**
   * Writes new tokens behind the cached ones and advances the lengths.
   *
   * A batch entry without room makes the operator fail when it runs: nothing is written, and the cache
   * and whatever is computed from it carry that error until {@link reset}. A GPU cannot report it: there the
   * entry keeps its length and NaN replaces its first token.
   *
   * @param k new keys, [B, H, T, D] in the dtype of the cache
   * @param v new values, [B, H, T, Dv]
   * @param options.counts i32[B]: how many of the T tokens each entry takes, for ragged prompts padded at
   *   the end. Default: all
   * @param options.rotary rotates the keys, and queries beside them, in the same pass: bit for bit what
   *   `rotary` gives at these positions
   * @returns the rotated queries, [B, Hq, T, D], where `rotary` has any, else null
   */
  append(
    k: Tensor,
    v: Tensor,
    options: { counts?: Tensor; rotary: AppendRotary & { queries: Tensor } },
  ): Tensor;
  append(k: Tensor, v: Tensor, options?: { counts?: Tensor; rotary?: AppendRotary }): Tensor | null;
  append(
    k: Tensor,
    v: Tensor,
    options: { counts?: Tensor; rotary?: AppendRotary } = {},
  ): Tensor | null {
    checkOptions('KvCache.append', options, ['counts', 'rotary']);
    const { counts = null, rotary } = options;
    return appendTokens('KvCache.append', this, k, v, counts, rotary);
  }

  /** Forgets the tokens from position `length` on; entries that are shorter stay as they are. */
  truncate(length: number | Tensor): void {
    if (typeof length === 'number') {
      if (!Number.isInteger(length) || length < 0) {
        throw new ArgumentError(
          'ERR_VALUE',
          'KvCache.truncate',
          'length',
          show(length),
          'Use a whole number from 0 on, or i32[B] with one per batch entry',
        );
      }
      const most = Math.min(length, this.capacity);
      const limits = full([1], most, { dtype: 'i32', device: this.lengths.device });
      truncateCall({ lengths: this.lengths, limits });
      limits.dispose();
    } else {
      truncateCall({ lengths: this.lengths, limits: length });
    }
    this.lengths.storage.version++;
  }

  /**
   * Batch entry i becomes a copy of entry `indices[i]`, as beam search needs. The number of entries may
   * change. `keys`, `values` and `lengths` are new tensors afterwards.
   *
   * @param indices i32[B'], or numbers; an index outside the batch fails when the operator runs. On a GPU
   *   such an entry holds one token, of NaN
   */
  reorder(indices: Tensor | readonly number[]): void {
    const given = !Array.isArray(indices);
    if (!given) checkLengths('KvCache.reorder', 'indices', indices);
    const order = given
      ? asTensor('KvCache.reorder', 'indices', indices)
      : tensor(Int32Array.from(indices as readonly number[]), { device: this.lengths.device });
    const { keys, values, lengths } = this;
    const moved = noGrad(() => reorderCall({ keys, values, lengths, indices: order }));
    if (!given) order.dispose();
    this.dispose();
    this.keys = keep(moved.newKeys);
    this.values = keep(moved.newValues);
    this.lengths = keep(moved.newLengths);
  }

  /** Empties the cache. Also mends one that an overflow has poisoned; the tensors are new. */
  reset(): void {
    this.dispose();
    [this.keys, this.values, this.lengths] = this.#allocate();
  }

  /** Frees the memory. */
  dispose(): void {
    this.keys.dispose();
    this.values.dispose();
    this.lengths.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
