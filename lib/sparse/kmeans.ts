/** Online spherical k-means over the tokens of each head. */
import { type Context, defineOperator, noGrad } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkObject, checkOptions, checkSizes, checkTensors } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { add, mul } from '../dense/binary.js';
import { mean } from '../dense/mean.js';
import { bucketSort } from './bucket-sort.js';

const kmeansAssignCall = nativeOperator('kmeansAssign', {
  x: field.input,
  centroids: field.input,
  lengths: field.optional,
  assignments: field.output,
  scores: field.output,
});

const clusterSumsCall = nativeOperator('clusterSums', {
  x: field.input,
  order: field.input,
  offsets: field.input,
  sums: field.output,
  counts: field.output,
});

const kmeansUpdateCall = nativeOperator('kmeansUpdate', {
  centroids: field.inout,
  sums: field.inout,
  counts: field.inout,
  state: field.inout,
  batchSums: field.optional,
  batchCounts: field.optional,
  x: field.input,
  lengths: field.optional,
  decay: field.number,
  epsilon: field.number,
  minimum: field.number,
  rule: field.choice('counts', 'means'),
  reset: field.flag,
});

const clusterMembersCall = nativeOperator('clusterMembers', {
  x: field.input,
  centroids: field.input,
  lengths: field.optional,
  window: field.integer,
  members: field.output,
});

const commitmentDistanceCall = nativeOperator('commitmentDistance', {
  x: field.input,
  centroids: field.input,
  assignments: field.input,
  distances: field.output,
});

const commitmentDistanceBackwardCall = nativeOperator('commitmentDistanceBackward', {
  x: field.input,
  centroids: field.input,
  assignments: field.input,
  gradDistances: field.input,
  gradX: field.output,
});

/** Which tokens are no padding. */
export interface TokenLengths {
  /** i32 [B]: tokens at and beyond are padding. */
  lengths?: Tensor | null;
}

/**
 * The nearest centroid of each token by direction: argmax of x . centroid, the first of equal ones. The
 * matrix of scores is never made.
 *
 * @param x [B, H, N, D]; NaN and infinities are an error on the CPU, and in cluster 0 on a GPU
 * @param centroids [H, k, D], shared by the batch
 * @returns `assignments`, i32 [B, H, N], k for padding; `scores`, [B, H, N], x . centroid / |x|
 * @throws ArgumentError for centroids of another shape
 * @example
 * const x = normal([1, 2, 100, 16]);
 * const { assignments } = kmeansAssign(x, normal([2, 8, 16]));
 * const { order, offsets } = bucketSort(assignments, 8);
 */
export function kmeansAssign(
  x: Tensor,
  centroids: Tensor,
  options: TokenLengths = {},
): { assignments: Tensor; scores: Tensor } {
  checkOptions('kmeansAssign', options, ['lengths']);
  return kmeansAssignCall({ x, centroids, lengths: options.lengths });
}

/**
 * What belongs to each cluster: the sum of its members' directions x / |x|, and their number, over the
 * batch. Members are added in the order of positions, so that results repeat bit for bit.
 *
 * @param assignments i32 [B, H, N], of {@link kmeansAssign}
 * @param clusters how many there are
 * @returns `sums` [H, k, D] and `counts` [H, k], in f32 (f64 for x in f64)
 * @example
 * const x = normal([1, 2, 100, 16]);
 * const centroids = normal([2, 8, 16]);
 * const { assignments } = kmeansAssign(x, centroids);
 * const { sums, counts } = clusterSums(x, assignments, 8);
 */
export function clusterSums(
  x: Tensor,
  assignments: Tensor,
  clusters: number,
): { sums: Tensor; counts: Tensor } {
  const { order, offsets } = bucketSort(assignments, clusters);
  try {
    return clusterSumsCall({ x, order, offsets });
  } finally {
    order.dispose();
    offsets.dispose();
  }
}

/** @internal The {@link clusterSums} of several tensors together. */
export function sumsOf(
  tokens: readonly Tensor[],
  assignments: readonly Tensor[],
  clusters: number,
): { sums: Tensor; counts: Tensor } {
  return tokens
    .map((x, i) => clusterSums(x, assignments[i] as Tensor, clusters))
    .reduce((a, b) => {
      const both = { sums: add(a.sums, b.sums), counts: add(a.counts, b.counts) };
      for (const t of [a.sums, a.counts, b.sums, b.counts]) t.dispose();
      return both;
    });
}

/** What moves centroids; all of it is written in place. */
export interface KmeansState {
  /** f32 or f64 [H, k, D]. */
  readonly centroids: Tensor;
  /** [H, k, D]: moving average of the sums of members. */
  readonly sums: Tensor;
  /** [H, k]: moving average of their numbers. */
  readonly counts: Tensor;
  /** i32 [4]: the Philox state that chooses tokens for clusters which start anew. */
  readonly generator: Tensor;
}

/** Options of {@link kmeansUpdate}. */
export interface KmeansUpdateOptions extends TokenLengths {
  /** Of the averages, per call. Default 0.999. */
  decay?: number;
  /** Laplace's smoothing of counts. Default 1e-5. */
  epsilon?: number;
  /**
   * A cluster whose average count falls below this share of the mean count starts anew from a random token.
   * Default 0.01; 0 never does.
   */
  minimum?: number;
  /**
   * `counts` (default): a centroid is the average sum by the average count, smoothed (van den Oord et al.
   * 2017). `means`: the moving average of the batches' mean directions; one without members stays.
   */
  rule?: 'counts' | 'means';
}

/**
 * Moves centroids towards the tokens that belong to them, by moving averages.
 *
 * @param x what was assigned: clusters that are empty start anew from its tokens
 * @param batch its {@link clusterSums}
 * @throws ArgumentError for state of another shape, or rates outside [0, 1]
 * @example
 * const x = normal([1, 2, 100, 16]);
 * const centroids = normal([2, 8, 16]);
 * const { assignments } = kmeansAssign(x, centroids);
 * const state = {
 *   ...{ centroids, sums: zeros([2, 8, 16]), counts: zeros([2, 8]) },
 *   generator: zeros([4], { dtype: 'i32' }),
 * };
 * kmeansUpdate(state, x, clusterSums(x, assignments, 8));
 */
export function kmeansUpdate(
  state: KmeansState,
  x: Tensor,
  batch: { sums: Tensor; counts: Tensor },
  options: KmeansUpdateOptions = {},
): void {
  checkOptions('kmeansUpdate', options, ['lengths', 'decay', 'epsilon', 'minimum', 'rule']);
  checkState('kmeansUpdate', state);
  checkObject('kmeansUpdate', 'batch', batch, '{ sums, counts } as clusterSums gives them');
  update(state, x, batch, options);
}

function checkState(operator: string, state: KmeansState): void {
  checkObject(operator, 'state', state, '{ centroids, sums, counts, generator }');
  const { centroids, sums, counts, generator } = state;
  for (const [name, t] of Object.entries({ centroids, sums, counts, generator })) {
    asTensor(operator, `state.${name}`, t);
  }
}

function update(
  state: KmeansState,
  x: Tensor,
  batch: { sums: Tensor; counts: Tensor } | null,
  options: KmeansUpdateOptions,
): void {
  const { lengths, decay = 0.999, epsilon = 1e-5, minimum = 0.01, rule = 'counts' } = options;
  const { centroids, sums, counts, generator } = state;
  kmeansUpdateCall({
    ...{ centroids, sums, counts, state: generator, x, lengths },
    ...(batch && { batchSums: batch.sums, batchCounts: batch.counts }),
    ...{ decay, epsilon, minimum, rule, reset: batch === null },
  });
  for (const t of [centroids, sums, counts, generator]) t.storage.version++;
}

/**
 * Starts centroids from random tokens and improves them by Lloyd's iterations over all tokens, in which empty
 * clusters start anew. Averages then are those of this batch.
 *
 * @param x [B, H, N, D], or several of them that share the centroids: queries and keys
 * @param options.iterations default 10
 * @throws ArgumentError for state of another shape
 * @example
 * const x = normal([1, 2, 100, 16]);
 * const centroids = normal([2, 8, 16]);
 * const state = {
 *   ...{ centroids, sums: zeros([2, 8, 16]), counts: zeros([2, 8]) },
 *   generator: zeros([4], { dtype: 'i32' }),
 * };
 * kmeansInitialise(state, x);
 */
export function kmeansInitialise(
  state: KmeansState,
  x: Tensor | readonly Tensor[],
  options: TokenLengths & { iterations?: number } = {},
): void {
  checkOptions('kmeansInitialise', options, ['lengths', 'iterations']);
  const { iterations = 10, lengths = null } = options;
  if (iterations !== 0) checkSizes('kmeansInitialise', { iterations });
  checkState('kmeansInitialise', state);
  const tokens = (Array.isArray(x) ? x : [x]) as readonly Tensor[];
  checkTensors('kmeansInitialise', 'x', tokens);
  const [first] = tokens;
  if (!first) {
    const remedy = 'Pass a tensor, or a list of at least one';
    throw new ArgumentError('ERR_VALUE', 'kmeansInitialise', 'x', show(x), remedy);
  }
  noGrad(() => {
    update(state, first, null, { lengths });
    const clusters = state.centroids.shape[1] as number;
    for (let i = 0; i < iterations; i++) {
      const found = tokens.map((t) => kmeansAssign(t, state.centroids, { lengths }));
      const assigned = found.map(({ assignments }) => assignments);
      const batch = sumsOf(tokens, assigned, clusters);
      // A cluster of one token is none of the empty ones.
      update(state, first, batch, { lengths, decay: 0, minimum: 1e-9 });
      for (const { assignments, scores } of found)
        for (const t of [assignments, scores]) t.dispose();
      for (const t of [batch.sums, batch.counts]) t.dispose();
    }
  });
}

/**
 * The `window` tokens nearest to each centroid, over the whole sequence: clusters of equal size. A token may be
 * in several of them, or in none. Which tokens an earlier one shares its cluster with depends on later
 * ones, whatever is masked afterwards.
 *
 * @param window how many; more than there are tokens is all of them
 * @returns i32 [B, H, k, min(window, N)], in the order of positions; -1 where there are fewer tokens
 * @throws ArgumentError for a window of 0
 * @example
 * const x = normal([1, 2, 100, 16]);
 * const centroids = normal([2, 8, 16]);
 * const members = clusterMembers(x, centroids, 32);
 */
export function clusterMembers(
  x: Tensor,
  centroids: Tensor,
  window: number,
  options: TokenLengths = {},
): Tensor {
  checkOptions('clusterMembers', options, ['lengths']);
  checkSizes('clusterMembers', { window });
  asTensor('clusterMembers', 'x', x);
  const { lengths } = options;
  const all = Math.max(1, x.shape[2] ?? 1);
  return clusterMembersCall({ x, centroids, lengths, window: Math.min(window, all) }).members;
}

const commitmentDistance = defineOperator({
  name: 'commitmentDistance',
  forward(ctx: Context, x: Tensor, centroids: Tensor, assignments: Tensor): Tensor {
    ctx.save(x, centroids, assignments);
    return commitmentDistanceCall({ x, centroids, assignments }).distances;
  },
  backward(ctx, gradDistances) {
    if (!gradDistances || !ctx.needs[0]) return [null];
    const [x, centroids, assignments] = ctx.saved() as [Tensor, Tensor, Tensor];
    return [commitmentDistanceBackwardCall({ x, centroids, assignments, gradDistances }).gradX];
  },
});

/**
 * How far tokens are from their centroids: the mean of (x / |x| - centroid)^2 over all elements of x; tokens
 * in no cluster count as 0. Its gradient goes to `x` alone, and draws tokens towards their clusters.
 *
 * @param assignments i32 [B, H, N], of {@link kmeansAssign}
 * @returns a scalar; multiply it by a small number (1e-4) and add it to the loss
 * @example
 * const x = normal([1, 2, 100, 16]);
 * const centroids = normal([2, 8, 16]);
 * const loss = commitmentLoss(x, centroids, kmeansAssign(x, centroids).assignments);
 */
export function commitmentLoss(x: Tensor, centroids: Tensor, assignments: Tensor): Tensor {
  for (const [name, t] of Object.entries({ x, centroids, assignments })) {
    asTensor('commitmentLoss', name, t);
  }
  if (x.rank !== 4) {
    throw new ArgumentError('ERR_RANK', 'commitmentLoss', 'x', show(x), 'It must be [B, H, N, D]');
  }
  return mul(mean(commitmentDistance(x, centroids, assignments)), 1 / (x.shape[3] as number));
}
