/** Attention of new tokens against a key/value cache. */
import { noGrad } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import { tidy } from '../core/scope.js';
import { Tensor } from '../core/tensor.js';
import { permute, reshape } from '../core/views.js';
import { equal, where } from '../dense/index.js';
import { mergeAttention } from './merge.js';
import { type AttentionOptions, problemOf } from './options.js';

/** @internal */
export const decodeCall = nativeOperator('attentionDecode', {
  q: field.input,
  k: field.input,
  v: field.input,
  keyLengths: field.input,
  queryLengths: field.optional,
  pageTable: field.optional,
  terms: field.group({
    bias: field.optional,
    alibiSlopes: field.optional,
    sinks: field.optional,
  }),
  scale: field.number,
  softcap: field.number,
  causal: field.flag,
  windowLeft: field.integer,
  splits: field.integer,
  batchInvariant: field.flag,
  withLse: field.flag,
  o: field.output,
  lse: field.output,
});

/** What `attentionDecode` reads: a `KvCache`, a `PagedKvCache`, or tensors laid out as theirs. */
export interface DecodingCache {
  /** [B, H, capacity, D]; with a page table [pages, H, page size, D]. */
  readonly keys: Tensor;
  /** Likewise, of width Dv. */
  readonly values: Tensor;
  /** i32[B] */
  readonly lengths: Tensor;
  /**
   * i32[B, pages of an entry]: token j of entry b is row j % page size of page
   * `pageTable[b, floor(j / page size)]`. Only entries that hold tokens which a query sees are read.
   */
  readonly pageTable?: Tensor | null;
}

/** Options of {@link attentionDecode}. */
export interface AttentionDecodeOptions
  extends Pick<AttentionOptions, 'scale' | 'softcap' | 'alibiSlopes' | 'sinks'> {
  /**
   * Added to the scores: anything that broadcasts to [B, Hq, T, capacity], in the dtype of `q` or f32, where
   * the capacity of a paged cache is that of an entry's row of the table.
   */
  bias?: Tensor;
  /** i32[B]: how many of the T new tokens each batch entry really has. Default: all. */
  counts?: Tensor;
  /** How many keys before its own a query sees; default: all. */
  windowLeft?: number;
  /**
   * Whether the T queries are the newest cached tokens, each seeing those up to itself (default), or all
   * of them see the whole cache, as another sequence's prefix or memory is seen.
   */
  causal?: boolean;
  /**
   * Into how many pieces of at least 64 keys the keys of an entry are cut, 1 to 128, for several parts of
   * the device to work on. Default 'auto': as many as fill the device.
   */
  splits?: 'auto' | number;
  /**
   * Cut keys in pieces that depend on an entry's own length alone, so that its result has the same bits
   * alone and in any batch, and at any capacity of the cache. Default false.
   */
  batchInvariant?: boolean;
  /** Return `[output, logSumExp]`, as `mergeAttention` takes them. Default false. */
  returnLse?: boolean;
}

const optionNames = [
  'scale',
  'softcap',
  'bias',
  'alibiSlopes',
  'sinks',
  'counts',
  'windowLeft',
  'causal',
  'splits',
  'batchInvariant',
  'returnLse',
];

/**
 * Exact causal attention of the newest tokens of a cache: what `attention` gives for these rows of the
 * whole sequence. Append their keys and values first. Lengths and page tables are read from the device
 * when the operator runs. Not differentiable.
 *
 * A length beyond the cache, or a page that does not exist, makes the operator fail when it runs. A GPU
 * cannot report it: lengths are clamped there, and in a paged cache such an entry gives NaN.
 *
 * @param q queries, [B, Hq, T, D] in the dtype of the cache (f32, bf16, f16, on the CPU also f64); Hq a
 *   multiple of the cache's heads. The last of the T (or of `counts[b]`) stands at the last cached key
 * @returns [B, Hq, T, Dv]; rows beyond `counts` are 0; with `returnLse` also the log-sum-exp [B, Hq, T]
 * @throws ArgumentError for shapes, dtypes or options that do not fit
 * @example
 * const cache = new KvCache({ batch: 1, heads: 2, capacity: 64, headDim: 8 });
 * for (let step = 0; step < 3; step++) {
 *   const token = normal([1, 2, 1, 8]);
 *   cache.append(token, token);
 *   const y = attentionDecode(token, cache);
 *   y.dispose();
 * }
 */
export function attentionDecode(
  q: Tensor,
  cache: DecodingCache,
  options: AttentionDecodeOptions & { returnLse: true },
): [output: Tensor, logSumExp: Tensor];
export function attentionDecode(
  q: Tensor,
  cache: DecodingCache,
  options?: AttentionDecodeOptions & { returnLse?: false },
): Tensor;
export function attentionDecode(
  q: Tensor,
  cache: DecodingCache,
  options: AttentionDecodeOptions = {},
): Tensor | [Tensor, Tensor] {
  checkOptions('attentionDecode', options, optionNames);
  const { o, lse } = decode('attentionDecode', q, cache, options);
  return options.returnLse ? [o, lse] : o;
}

function decode(
  operator: string,
  q: Tensor,
  cache: DecodingCache,
  options: AttentionDecodeOptions,
): { o: Tensor; lse: Tensor } {
  const { keys: k, values: v, lengths: keyLengths, pageTable } = cacheOf(operator, 'cache', cache);
  const { counts, windowLeft = -1, splits = 'auto', causal = true } = options;
  const { bias, alibiSlopes, sinks, ...rest } = options;
  const scores: AttentionOptions = {};
  if (rest.scale !== undefined) scores.scale = rest.scale;
  if (rest.softcap !== undefined) scores.softcap = rest.softcap;
  const { scale, softcap } = problemOf(operator, q, null, scores);
  if (splits !== 'auto' && !(Number.isInteger(splits) && splits >= 1)) {
    const remedy = "Use 'auto', or a whole number from 1 to 128";
    throw new ArgumentError('ERR_VALUE', operator, 'splits', show(splits), remedy);
  }
  return decodeCall({
    q,
    k,
    v,
    keyLengths,
    queryLengths: counts,
    pageTable: pageTable ?? null,
    terms: bias || alibiSlopes || sinks ? { bias, alibiSlopes, sinks } : null,
    scale,
    softcap,
    causal,
    windowLeft,
    splits: splits === 'auto' ? 0 : splits,
    batchInvariant: options.batchInvariant ?? false,
    withLse: options.returnLse ?? false,
  });
}

function cacheOf(operator: string, argument: string, cache: DecodingCache): DecodingCache {
  if (typeof cache === 'object' && cache?.lengths instanceof Tensor) return cache;
  const remedy = 'Pass a KvCache, a PagedKvCache, or { keys, values, lengths }';
  throw new ArgumentError('ERR_VALUE', operator, argument, show(cache), remedy);
}

const sharedOptionNames = ['scale', 'softcap', 'sinks', 'counts', 'splits', 'batchInvariant'];

/**
 * `attentionDecode` for sequences that begin alike: the keys and values of the common prefix are stored
 * and read once for all of them, and each has a cache of its own for what follows. Attention over the
 * prefix, with the queries of all sequences packed into one, is merged with that over each one's own keys
 * (`mergeAttention`); the result is that of caches which hold both.
 *
 * @param prefix a cache with a batch of 1
 * @param cache what follows the prefix in each of the B sequences, the T new tokens included
 * @param options as those of `attentionDecode`
 * @throws ArgumentError for shapes, dtypes or options that do not fit
 * @example
 * const sizes = { heads: 2, headDim: 8, capacity: 32 };
 * const [prefix, cache] = [new KvCache({ batch: 1, ...sizes }), new KvCache({ batch: 4, ...sizes })];
 * const prompt = normal([1, 2, 20, 8]);
 * prefix.append(prompt, prompt);
 * const token = normal([4, 2, 1, 8]);
 * cache.append(token, token);
 * const y = attentionDecodeShared(token, prefix, cache);
 */
export function attentionDecodeShared(
  q: Tensor,
  prefix: DecodingCache,
  cache: DecodingCache,
  options: Omit<
    AttentionDecodeOptions,
    'bias' | 'alibiSlopes' | 'windowLeft' | 'causal' | 'returnLse'
  > = {},
): Tensor {
  checkOptions('attentionDecodeShared', options, sharedOptionNames);
  asTensor('attentionDecodeShared', 'q', q);
  if (cacheOf('attentionDecodeShared', 'prefix', prefix).lengths.shape[0] !== 1) {
    throw new ArgumentError(
      'ERR_SHAPE',
      'attentionDecodeShared',
      'prefix',
      `a cache of ${prefix.lengths.shape[0]} entries`,
      'Give a cache with a batch of 1',
    );
  }
  return noGrad(() =>
    tidy(() => {
      const own = decode('attentionDecodeShared', q, cache, { ...options, returnLse: true });
      const [b, h, t, d] = q.shape as [number, number, number, number];
      const packed = reshape(permute(q, [1, 0, 2, 3]), [1, h, b * t, d]);
      const { sinks: _, counts: __, ...scores } = options;
      const shared = decode('attentionDecodeShared', packed, prefix, {
        ...scores,
        causal: false,
        returnLse: true,
      });
      // Heads of the packed queries to those of each sequence.
      const o = permute(reshape(shared.o, [h, b, t, -1]), [1, 0, 2, 3]);
      const lse = permute(reshape(shared.lse, [h, b, t]), [1, 0, 2]);
      // A query sees at least itself: one that sees nothing is none, and stays 0.
      const none = equal(own.lse, Number.NEGATIVE_INFINITY);
      const seen = where(none, Number.NEGATIVE_INFINITY, lse);
      return mergeAttention([
        [o, seen],
        [own.o, own.lse],
      ])[0];
    }),
  );
}
