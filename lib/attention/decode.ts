/** Attention of new tokens against a key/value cache. */
import { field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import type { KvCache } from './kv-cache.js';
import { type AttentionOptions, problemOf } from './options.js';

/** @internal */
export const decodeCall = nativeOperator('attentionDecode', {
  q: field.input,
  k: field.input,
  v: field.input,
  keyLengths: field.input,
  queryLengths: field.optional,
  scale: field.number,
  softcap: field.number,
  windowLeft: field.integer,
  withLse: field.flag,
  o: field.output,
  lse: field.output,
});

/** Options of {@link attentionDecode}. */
export interface AttentionDecodeOptions extends Pick<AttentionOptions, 'scale' | 'softcap'> {
  /** i32[B]: how many of the T new tokens each batch entry really has. Default: all. */
  counts?: Tensor;
  /** How many keys before its own a query sees; default: all. */
  windowLeft?: number;
}

/**
 * Exact causal attention of the newest tokens of a cache: what `attention` gives for these rows of the
 * whole sequence. Append their keys and values first. The lengths are read from the device when the
 * operator runs. Not differentiable.
 *
 * @param q queries, [B, Hq, T, D] in the dtype of the cache (f32, bf16, f16, on the CPU also f64); Hq a
 *   multiple of the cache's heads. The last of the T (or of `counts[b]`) stands at the last cached key
 * @returns [B, Hq, T, Dv]; rows beyond `counts` are 0
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
  cache: Pick<KvCache, 'keys' | 'values' | 'lengths'>,
  options: AttentionDecodeOptions = {},
): Tensor {
  checkOptions('attentionDecode', options, ['scale', 'softcap', 'counts', 'windowLeft']);
  const { counts, windowLeft = -1, ...rest } = options;
  const { scale, softcap } = problemOf('attentionDecode', q, null, rest);
  const { keys: k, values: v, lengths: keyLengths } = cache;
  return decodeCall({
    q,
    k,
    v,
    keyLengths,
    queryLengths: counts,
    scale,
    softcap,
    windowLeft,
    withLse: false,
  }).o;
}
