/** Exact attention over rows fetched through a permutation: what hashing and routing share. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator } from '../core/declare.js';
import { checkNumbers, checkObject, checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const problemFields = {
  queryOrder: field.input,
  keyOrder: field.input,
  queryOffsets: field.input,
  keyOffsets: field.input,
  lengths: field.optional,
  pattern: field.choice('chunk', 'window', 'group', 'global'),
  chunk: field.integer,
  back: field.integer,
  forward: field.integer,
  window: field.integer,
  causal: field.flag,
  sameGroup: field.flag,
  self: field.choice('ordinary', 'hidden', 'lastResort', 'penalised'),
  selfPenalty: field.number,
  duplicates: field.choice('counted', 'corrected', 'sameRound'),
  scale: field.number,
} as const;

const forwardCall = nativeOperator('sortedAttention', {
  q: field.input,
  k: field.input,
  v: field.input,
  ...problemFields,
  withRoundLse: field.flag,
  o: field.output,
  lse: field.output,
  roundLse: field.output,
});

const backwardCall = nativeOperator('sortedAttentionBackward', {
  q: field.input,
  k: field.input,
  v: field.input,
  o: field.input,
  lse: field.input,
  gradO: field.optional,
  gradLse: field.optional,
  ...problemFields,
  gradQ: field.output,
  gradK: field.output,
  gradV: field.output,
});

/** Positions sorted into groups, round by round, as `bucketSort` returns them. */
export interface SortedTokens {
  /**
   * i32 [B, H, R, N']: positions by (group, position), a position at most once per round. What comes behind the
   * last group is padding.
   */
  order: Tensor;
  /** i32 [B, H, R, G + 1]: where each group begins in `order`, and the last one ends. */
  offsets: Tensor;
}

/**
 * Which keys a query sees, ranks counted within its group:
 *
 * - `chunk`: those of its own chunk of ranks, of `back` chunks before and of `forward` chunks after it
 * - `window`: the last `window` keys of the group at positions up to its own
 * - `group`: the whole group
 * - `global`: as `chunk`, of chunks cut over the orders of all rounds laid end to end, around their ends, whatever
 *   the groups (only its own with `sameGroup`). What a query sees then depends on later tokens as well.
 */
export type SortedPattern =
  | {
      readonly kind: 'chunk';
      readonly chunk: number;
      readonly back?: number;
      readonly forward?: number;
    }
  | { readonly kind: 'window'; readonly window: number }
  | { readonly kind: 'group' }
  | {
      readonly kind: 'global';
      readonly chunk: number;
      readonly back?: number;
      readonly forward?: number;
      readonly sameGroup?: boolean;
    };

/** Options of {@link sortedAttention}. */
export interface SortedAttentionOptions {
  queries: SortedTokens;
  /** Default: as the queries. */
  keys?: SortedTokens;
  pattern: SortedPattern;
  /** Query i sees key j only when j <= i. Default false; a window is always causal. */
  causal?: boolean;
  /**
   * What becomes of the pair of a position with itself: `ordinary` (default), `hidden`, `lastResort` (its logit
   * becomes `-selfPenalty`) or `penalised` (`selfPenalty` is subtracted from it).
   */
  self?: 'ordinary' | 'hidden' | 'lastResort' | 'penalised';
  /** 100 or more. Default 1000. */
  selfPenalty?: number;
  /**
   * Of a pair that several rounds see: `counted` as often (default), or `corrected` by subtracting the logarithm of
   * that number. `sameRound` is the lucidrains code's correction, for pattern `global`.
   */
  duplicates?: 'counted' | 'corrected' | 'sameRound';
  /** i32 [B], with pattern `global` only: tokens at and beyond see nothing and are not seen. */
  lengths?: Tensor;
  /** Factor on the products. Default 1 / sqrt(D). */
  scale?: number;
}

/** @internal */
export const defaultSelfPenalty = 1000;

type PatternFields = Record<'chunk' | 'back' | 'forward' | 'window', number> & {
  sameGroup: boolean;
};
type Problem = Omit<Parameters<typeof forwardCall>[0], 'q' | 'k' | 'v' | 'withRoundLse'>;

const sortedAttentionOperator = defineOperator({
  name: 'sortedAttention',
  forward(
    ctx: Context<Problem>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    problem: Problem,
    withRoundLse: boolean,
  ): readonly Tensor[] {
    const { o, lse, roundLse } = forwardCall({ q, k, v, ...problem, withRoundLse });
    if (ctx.needs.includes(true)) {
      const { queryOrder, keyOrder, queryOffsets, keyOffsets, lengths } = problem;
      ctx.state = problem;
      ctx.save(q, k, v, o, lse, queryOrder, keyOrder, queryOffsets, keyOffsets);
      if (lengths) ctx.save(lengths);
    }
    return withRoundLse ? [o, lse, roundLse] : [o, lse];
  },
  backward(ctx, gradO, gradLse) {
    const [q, k, v, o, lse] = ctx.saved() as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const grads = backwardCall({ q, k, v, o, lse, gradO, gradLse, ...ctx.state });
    return [grads.gradQ, grads.gradK, grads.gradV, null, null];
  },
});

const optionNames = [
  'queries',
  'keys',
  'pattern',
  'causal',
  'self',
  'selfPenalty',
  'duplicates',
  'lengths',
  'scale',
  'returnRoundLse',
];

const patternNames = ['kind', 'chunk', 'back', 'forward', 'window', 'sameGroup'];

/**
 * Softmax attention between tokens that are near each other in a sorted order: the engine of `lshAttention` and
 * `routingAttention`. Rows are fetched through the order, tile by tile; no matrix of scores, no copy
 * of sorted rows. All rounds together are one softmax per row, with gradients through `q`, `k` and `v`; orders
 * are constants.
 *
 * Rows that see no key, or that no order lists, give 0 and log-sum-exp -Infinity.
 *
 * @param q [B, H, N, D], f32, bf16, f16 or f64; D from 1 to 256
 * @param k [B, Hk, M, D]; H must be a multiple of Hk, and query head h reads key head floor(h Hk / H)
 * @param v [B, Hk, M, Dv]
 * @returns [output, logSumExp], [B, H, N, Dv] and [B, H, N]; with `returnRoundLse` also that of each round,
 *   [B, H, R, N], through which no gradient flows
 * @throws ArgumentError for shapes or options that do not fit. An order that is none fails on the CPU when
 *   the operator runs
 * @example
 * const [qk, v] = [normal([1, 2, 100, 16]), normal([1, 2, 100, 16])];
 * const queries = bucketSort(lshBuckets(qk, { buckets: 4, rounds: 2 }), 4);
 * const pattern = { kind: 'chunk', chunk: 16, back: 1 } as const;
 * const [y] = sortedAttention(qk, qk, v, { queries, pattern, causal: true });
 */
export function sortedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: SortedAttentionOptions & { returnRoundLse?: boolean },
): [output: Tensor, logSumExp: Tensor, roundLse?: Tensor] {
  checkOptions('sortedAttention', options, optionNames);
  asTensor('sortedAttention', 'q', q);
  const { queries, keys = queries, pattern } = options;
  checkObject('sortedAttention', 'queries', queries, '{ order, offsets } as bucketSort gives them');
  checkObject('sortedAttention', 'keys', keys, '{ order, offsets } as bucketSort gives them');
  checkObject('sortedAttention', 'pattern', pattern, "{ kind: 'chunk', chunk: 64 }, say");
  checkOptions('sortedAttention', pattern, patternNames);
  const { causal = pattern.kind === 'window', self = 'ordinary', scale } = options;
  const { selfPenalty = defaultSelfPenalty, duplicates = 'counted' } = options;
  checkNumbers('sortedAttention', { scale });
  const ranks: PatternFields = { chunk: 0, back: 0, forward: 0, window: 0, sameGroup: false };
  const { kind, ...given } = pattern;
  Object.assign(ranks, given);
  const problem: Problem = {
    queryOrder: queries.order,
    keyOrder: keys.order,
    queryOffsets: queries.offsets,
    keyOffsets: keys.offsets,
    lengths: options.lengths ?? null,
    pattern: kind,
    ...ranks,
    causal,
    self,
    selfPenalty,
    duplicates,
    scale: scale ?? 1 / Math.sqrt(q.shape.at(-1) || 1),
  };
  const results = sortedAttentionOperator(q, k, v, problem, options.returnRoundLse ?? false);
  return results as [Tensor, Tensor, Tensor?];
}
