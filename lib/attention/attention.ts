/** Exact attention: tiled, never a matrix of scores. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const problem = {
  keyLengths: field.optional,
  queryLengths: field.optional,
  scale: field.number,
  softcap: field.number,
  causal: field.flag,
  windowLeft: field.integer,
  windowRight: field.integer,
  tokenMajor: field.flag,
} as const;

const forwardCall = nativeOperator('attention', {
  q: field.input,
  k: field.input,
  v: field.input,
  ...problem,
  withLse: field.flag,
  o: field.output,
  lse: field.output,
});

const backwardCall = nativeOperator('attentionBackward', {
  q: field.input,
  k: field.input,
  v: field.input,
  o: field.input,
  lse: field.input,
  gradO: field.optional,
  gradLse: field.optional,
  ...problem,
  gradQ: field.output,
  gradK: field.output,
  gradV: field.output,
});

/** A sliding window: how many keys before and after its own position a query sees; -1 is no limit. */
export type AttentionWindow = readonly [left: number, right: number];

/** Options of {@link attention}. */
export interface AttentionOptions {
  /**
   * Query i sees key j only when j <= i + (keys - queries): the masks align to the bottom right corner,
   * with valid lengths where lengths are given. Default false.
   */
  causal?: boolean;
  /** Factor on the products. Default 1 / sqrt(D). */
  scale?: number;
  /** i32[B]: keys from this position on do not exist. Read when the operator runs. */
  keyLengths?: Tensor;
  /** i32[B]: queries from this position on do not exist: output 0, log-sum-exp -Infinity, no gradient. */
  queryLengths?: Tensor;
  /** Sliding window, both ends inclusive, aligned as `causal`. */
  window?: AttentionWindow;
  /** Scores become `softcap * tanh(score / softcap)` before the masks. */
  softcap?: number;
  /** Whether heads or tokens come first: `[B, H, N, D]` (default) or `[B, N, H, D]`, in results too. */
  layout?: 'bhnd' | 'bnhd';
  /** Return `[output, logSumExp]`. Default false. */
  returnLse?: boolean;
}

/** @internal The options as the kernels take them. */
export interface AttentionProblem {
  keyLengths: Tensor | null;
  queryLengths: Tensor | null;
  scale: number;
  softcap: number;
  causal: boolean;
  windowLeft: number;
  windowRight: number;
  tokenMajor: boolean;
}

const optionNames = [
  'causal',
  'scale',
  'keyLengths',
  'queryLengths',
  'window',
  'softcap',
  'layout',
  'returnLse',
];

/** @internal Checks the options that are not tensors. */
export function problemOf(
  operator: string,
  q: Tensor,
  options: AttentionOptions,
): AttentionProblem {
  const { causal = false, keyLengths, queryLengths, window, softcap, layout = 'bhnd' } = options;
  const { scale = 1 / Math.sqrt(q.shape?.at(-1) || 1) } = options;
  if (window !== undefined && !(Array.isArray(window) && window.length === 2)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'window',
      show(window),
      'Use [left, right], -1 for no limit',
    );
  }
  if (softcap !== undefined && !(typeof softcap === 'number' && softcap > 0)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'softcap',
      show(softcap),
      'Use a positive number, or leave it out',
    );
  }
  if (layout !== 'bhnd' && layout !== 'bnhd') {
    throw new ArgumentError('ERR_OPTION', operator, 'layout', show(layout), "Use 'bhnd' or 'bnhd'");
  }
  return {
    keyLengths: keyLengths ?? null,
    queryLengths: queryLengths ?? null,
    scale,
    softcap: softcap ?? 0,
    causal,
    windowLeft: window ? window[0] : -1,
    windowRight: window ? window[1] : -1,
    tokenMajor: layout === 'bnhd',
  };
}

const attentionOperator = defineOperator({
  name: 'attention',
  forward(
    ctx: Context<AttentionProblem>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    options: AttentionProblem,
    returnLse: boolean,
  ): Tensor | [Tensor, Tensor] {
    const recorded = ctx.needs.includes(true);
    // Field by field: spreading the options costs a tenth of the call.
    const { o, lse } = forwardCall({
      q,
      k,
      v,
      keyLengths: options.keyLengths,
      queryLengths: options.queryLengths,
      scale: options.scale,
      softcap: options.softcap,
      causal: options.causal,
      windowLeft: options.windowLeft,
      windowRight: options.windowRight,
      tokenMajor: options.tokenMajor,
      withLse: returnLse || recorded,
    });
    if (!recorded) return returnLse ? [o, lse] : o;
    ctx.state = options;
    ctx.save(q, k, v, o);
    if (returnLse) ctx.save(lse);
    else ctx.own(lse);
    if (options.keyLengths) ctx.save(options.keyLengths);
    if (options.queryLengths) ctx.save(options.queryLengths);
    return returnLse ? [o, lse] : o;
  },
  backward(ctx, gradO, gradLse) {
    const [q, k, v, o, lse] = ctx.saved() as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const { gradQ, gradK, gradV } = backwardCall({ q, k, v, o, lse, gradO, gradLse, ...ctx.state });
    return [gradQ, gradK, gradV, null, null];
  },
}) as (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionProblem,
  returnLse: boolean,
) => Tensor | [Tensor, Tensor];

/**
 * Exact softmax attention, softmax(scale * q k^T + masks) v, tile by tile with a running maximum: memory
 * grows with the sequence, not with its square (Dao et al. 2022). Tiles that masks exclude are skipped.
 *
 * Inputs are read by stride, so permuted views cost no copy. A row that sees no key gives 0, log-sum-exp
 * -Infinity and zero gradients. 16-bit types are computed in f32.
 *
 * @param q queries, [B, Hq, N, D], f32, bf16, f16 or f64; D from 1 to 256
 * @param k keys, [B, Hkv, M, D]; Hq must be a multiple of Hkv, and query head h reads key head
 *   floor(h * Hkv / Hq)
 * @param v values, [B, Hkv, M, Dv]; Dv from 1 to 256
 * @returns [B, Hq, N, Dv] in the dtype of `q`; with `returnLse` also the natural logarithm of each row's
 *   sum of exponentials, [B, Hq, N] in f32 (f64 for f64), through which gradients flow as well
 * @throws ArgumentError for shapes, dtypes or options that do not fit; lengths outside their sequence
 *   fail when the operator runs, and whoever reads the result gets that error
 * @example
 * const [q, k, v] = [1, 2, 3].map((seed) => normal([1, 4, 128, 32], { generator: new Generator(seed) }));
 * const y = attention(q, k, v, { causal: true });
 * const [o, lse] = attention(q, k, v, { window: [16, 0], returnLse: true });
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions & { returnLse: true },
): [output: Tensor, logSumExp: Tensor];
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options?: AttentionOptions & { returnLse?: false },
): Tensor;
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions = {},
): Tensor | [Tensor, Tensor] {
  checkOptions('attention', options, optionNames);
  return attentionOperator(q, k, v, problemOf('attention', q, options), options.returnLse === true);
}
