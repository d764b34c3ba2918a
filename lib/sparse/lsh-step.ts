/** Decoding of attention by hashing: for each bucket a list of its recent tokens. */
import { KvCache } from '../attention/kv-cache.js';
import { noGrad } from '../core/autograd/index.js';
import { zeros } from '../core/create.js';
import { asTensor, field, nativeOperator } from '../core/declare.js';
import type { Device } from '../core/device.js';
import type { DType } from '../core/dtype.js';
import { UnsupportedError } from '../core/errors.js';
import { isCapturing } from '../core/graph.js';
import { checkInstance, checkNumbers, checkOptions, checkSizes } from '../core/options.js';
import { assign } from '../core/primitives.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { indexSelect } from '../dense/index-select.js';
import { type LshAttentionOperatorOptions, lshAttention } from './lsh-attention.js';
import { bucketFactors, lshBuckets } from './lsh-buckets.js';
import { defaultSelfPenalty } from './sorted-attention.js';
import { unitKeys } from './unit-keys.js';

const lshStepCall = nativeOperator('lshStep', {
  lists: field.inout,
  counts: field.inout,
  keys: field.input,
  values: field.input,
  lengths: field.input,
  q: field.input,
  buckets: field.input,
  chunk: field.integer,
  back: field.integer,
  scale: field.number,
  selfPenalty: field.number,
  attends: field.flag,
  o: field.output,
});

/** Sizes of an {@link LshCache}. */
export interface LshCacheOptions {
  batch: number;
  heads: number;
  /** Most tokens of a sequence. */
  capacity: number;
  /** An even number of buckets, or even factors of it, see `lshBuckets`. */
  buckets: number | readonly number[];
  /** Independent hashes. Default 4. */
  rounds?: number;
  /** Tokens of a bucket that see each other and those of the chunks before. Default 64. */
  chunk?: number;
  /** Default 1. */
  back?: number;
  keyDim: number;
  /** Default: as `keyDim`. */
  valueDim?: number;
  dtype?: DType;
  device?: Device | string;
}

const optionNames = [
  ...['batch', 'heads', 'capacity', 'buckets', 'rounds', 'chunk', 'back', 'keyDim', 'valueDim'],
  ...['dtype', 'device'],
];

/**
 * What attention by hashing remembers of the tokens so far: their keys and values, and of each bucket the positions
 * of its last `(back + 1) chunk` tokens. What a step costs does not depend on how many tokens came. Survives
 * `tidy`.
 *
 * @example
 * const cache = new LshCache({ batch: 1, heads: 2, capacity: 512, buckets: 8, rounds: 2, keyDim: 16 });
 */
export class LshCache {
  /** Keys of length sqrt(D), and values. */
  readonly tokens: KvCache;
  /** i32 [B, H, rounds, buckets, slots]: the token of rank r in its bucket lies in slot r % slots. */
  readonly lists: Tensor;
  /** i32 [B, H, rounds, buckets]: tokens that came. */
  readonly counts: Tensor;
  readonly factors: readonly number[];
  readonly chunk: number;
  readonly back: number;
  /** @internal Whether nothing was taken in since it was made or reset. */
  isEmpty = true;

  constructor(options: LshCacheOptions) {
    checkOptions('LshCache', options, optionNames);
    const { batch, heads, capacity, buckets, rounds = 4, chunk = 64, back = 1 } = options;
    const { keyDim, valueDim = keyDim, dtype = 'f32', device = 'cpu' } = options;
    checkSizes('LshCache', { batch, heads, capacity, rounds, chunk, keyDim, valueDim });
    checkSizes('LshCache', { back }, 0);
    this.factors = bucketFactors('LshCache', buckets);
    this.chunk = chunk;
    this.back = back;
    const count = this.factors.reduce((n, factor) => n * factor);
    const slots = Math.min((back + 1) * chunk, capacity);
    this.tokens = new KvCache({ batch, heads, capacity, headDim: keyDim, valueDim, dtype, device });
    const shape = [batch, heads, rounds, count];
    this.lists = keep(zeros([...shape, slots], { dtype: 'i32', device }));
    this.counts = keep(zeros(shape, { dtype: 'i32', device }));
  }

  /** Memory it holds, in bytes. */
  get byteLength(): number {
    const { keys, values, lengths } = this.tokens;
    return [keys, values, lengths, this.lists, this.counts].reduce((n, t) => n + t.byteLength, 0);
  }

  /**
   * Batch entry i continues what entry `parents[i]` was.
   * @param parents i32 [batch]
   */
  reorder(parents: Tensor): void {
    this.tokens.reorder(parents);
    for (const t of [this.lists, this.counts]) {
      const moved = indexSelect(t, 0, parents);
      assign(t, moved);
      moved.dispose();
    }
  }

  /** Forgets everything. */
  reset(): void {
    this.tokens.reset();
    const none = zeros(this.counts.shape, { dtype: 'i32', device: this.counts.device });
    assign(this.counts, none);
    none.dispose();
    this.isEmpty = true;
  }

  dispose(): void {
    for (const t of [this.tokens, this.lists, this.counts]) t.dispose();
  }
}

/**
 * Takes T further tokens into `cache` and returns their outputs: those of {@link lshAttention} over the whole
 * sequence, causal, with the same rotations and the cache's buckets and chunks; on the CPU to the bit. A token
 * costs `rounds (back + 1) chunk` keys at most, whatever came before it. Several tokens that an empty cache is
 * given are computed as a whole, which `device.capture` cannot record.
 *
 * @param qk queries, and keys before they are normalised, [B, H, T, D]
 * @param v [B, H, T, Dv]
 * @param rotations see `lshRotations`; the same in every step
 * @returns [B, H, T, Dv], without gradients
 * @throws ArgumentError for shapes that do not fit the cache, UnsupportedError for such a recording
 * @example
 * const cache = new LshCache({ batch: 1, heads: 2, capacity: 512, buckets: 8, rounds: 2, keyDim: 16 });
 * const [qk, v] = [normal([1, 2, 1, 16]), normal([1, 2, 1, 16])];
 * const y = lshStep(qk, v, lshRotations(qk, { buckets: 8, rounds: 2 }), cache);
 */
export function lshStep(
  qk: Tensor,
  v: Tensor,
  rotations: Tensor,
  cache: LshCache,
  options: Pick<LshAttentionOperatorOptions, 'scale' | 'selfPenalty'> = {},
): Tensor {
  checkOptions('lshStep', options, ['scale', 'selfPenalty']);
  checkNumbers('lshStep', options as Record<string, unknown>);
  checkInstance('lshStep', 'cache', cache, LshCache);
  for (const [name, t] of Object.entries({ qk, v, rotations })) asTensor('lshStep', name, t);
  const { factors, chunk, back, lists, counts, tokens } = cache;
  return noGrad(() => {
    const buckets = lshBuckets(qk, { buckets: factors, rotations });
    const { keys: rows, scale } = unitKeys(qk, options);
    const asWhole = cache.isEmpty && (qk.shape[2] as number) > 1;
    if (asWhole && isCapturing()) {
      throw new UnsupportedError('lshStep: several tokens for an empty cache cannot be recorded', {
        ...{ operator: 'lshStep', argument: 'cache', value: 'empty' },
        remedy: 'Take the first tokens in before device.capture',
      });
    }
    const whole = asWhole
      ? lshAttention(qk, v, {
          ...{ buckets: factors, bucketIds: buckets, causal: true, chunk, back },
          ...options,
        })
      : null;
    tokens.append(rows, v);
    const { keys, values, lengths } = tokens;
    const { o } = lshStepCall({
      ...{ lists, counts, keys, values, lengths, q: qk, buckets, chunk, back, scale },
      selfPenalty: options.selfPenalty ?? defaultSelfPenalty,
      attends: !asWhole,
    });
    for (const t of [lists, counts]) t.storage.version++;
    for (const t of [buckets, rows]) t.dispose();
    cache.isEmpty = false;
    return whole ?? o;
  });
}
