/** Attention among tokens of a cluster. */

import { attention } from '../attention/index.js';
import { decideOnce } from '../core/autograd/index.js';
import { tensor } from '../core/create.js';
import { asTensor, show } from '../core/declare.js';
import type { DType } from '../core/dtype.js';
import { ArgumentError } from '../core/errors.js';
import {
  checkFlags,
  checkNumbers,
  checkObject,
  checkOptions,
  checkSizes,
} from '../core/options.js';
import { full } from '../core/primitives.js';
import type { Tensor } from '../core/tensor.js';
import { reshape } from '../core/views.js';
import { add, div, mul } from '../dense/binary.js';
import { equal, greater, greaterEqual, less, logicalNot, logicalOr } from '../dense/compare.js';
import { concat } from '../dense/concat.js';
import { addSlices, indexSelect } from '../dense/index-select.js';
import { maximum } from '../dense/maximum.js';
import { expand, sum } from '../dense/sum.js';
import { where } from '../dense/where.js';
import { bucketSort } from './bucket-sort.js';
import { clusterMembers, kmeansAssign } from './kmeans.js';
import {
  type SortedAttentionOptions,
  type SortedTokens,
  sortedAttention,
} from './sorted-attention.js';
import { unitKeys } from './unit-keys.js';

/** Options of {@link routingAttention}. */
export interface RoutingAttentionOperatorOptions
  extends Pick<SortedAttentionOptions, 'scale' | 'self' | 'selfPenalty'> {
  /**
   * Causal: how many keys of its cluster a query sees, the most recent ones. Else: members of a run; a query sees its
   * own run of its cluster's keys, the one before and the one after. With `balanced` the tokens of a cluster.
   * More than there are is all of them. Default 128.
   */
  window?: number;
  /** A query sees keys at its own position and before. Default true. */
  causal?: boolean;
  /**
   * The paper's clusters of equal size: the `window` tokens nearest to each centroid, over the whole sequence. A
   * token may be in several clusters, whose outputs are averaged, or in none, and then gives 0. Which
   * tokens those are depends on later ones: it leaks, even where it is `causal`. Default false.
   */
  balanced?: boolean;
  /** i32 [B]: tokens at and beyond are padding, in no cluster. */
  lengths?: Tensor | null;
  /** The same for keys, where they are others. Default: `lengths` without keys of their own, else none. */
  keyLengths?: Tensor | null;
  /** i32 [B, H, N]: clusters to use, of `kmeansAssign`, rather than the nearest centroids. Not with `balanced`. */
  assignments?: Tensor;
  /** The same for keys. */
  keyAssignments?: Tensor;
  /** With `balanced`: how many keys a cluster has, if not `window`. */
  keyWindow?: number;
  /** With `balanced`: added to the number of clusters of a token, which its outputs are divided by. Default 0. */
  epsilon?: number;
  /** With `balanced`: keys and values that all queries of a cluster see, [H, k, m, D] and [H, k, m, Dv]. */
  memory?: { readonly keys: Tensor; readonly values: Tensor };
  /**
   * With `balanced`: u8 [B, N] and [B, M]; where 0, a token takes its place in clusters, but sees only memory and is
   * seen by nobody.
   */
  masks?: { readonly queries?: Tensor; readonly keys?: Tensor };
}

const common = [
  'window',
  'causal',
  'balanced',
  'lengths',
  'keyLengths',
  'scale',
  'self',
  'selfPenalty',
];
const ofAssigned = ['assignments', 'keyAssignments'];
const ofBalanced = ['keyWindow', 'epsilon', 'memory', 'masks'];

/** Logit of a token's pair with itself where keys are the queries, unless there is nothing else. */
const lastResort = 1e4;

/**
 * Attention among tokens that are near the same centroid (Roy et al. 2021, Routing Transformer), for any N.
 *
 * By default it is causal and can be decoded: a query sees the last `window` keys of its own cluster at positions
 * up to its own, so that nothing it sees depends on later tokens; one that sees no key gives 0. Time and memory
 * grow with N * window. `balanced` is the paper's form.
 *
 * @param q [B, H, N, D]
 * @param k [B, H, M, D] (M is N where causal), or null: keys are the queries, normalised to length 1, and a token sees
 *   itself only where it sees nothing else
 * @param v [B, H, M, Dv]
 * @param centroids [H, clusters, D], constants; see `kmeansUpdate`
 * @returns [B, H, N, Dv]
 * @throws ArgumentError for centroids of another shape, a window of 0, options that belong to another form
 * @example
 * const [q, k, v] = [normal([1, 2, 100, 16]), normal([1, 2, 100, 16]), normal([1, 2, 100, 16])];
 * const y = routingAttention(q, k, v, normal([2, 8, 16]), { window: 32 });
 */
export function routingAttention(
  q: Tensor,
  k: Tensor | null,
  v: Tensor,
  centroids: Tensor,
  options: RoutingAttentionOperatorOptions = {},
): Tensor {
  checkOptions('routingAttention', options, [...common, ...ofAssigned, ...ofBalanced]);
  const { window = 128, causal = true, balanced = false, keyWindow = window } = options;
  checkSizes('routingAttention', { window, keyWindow });
  checkFlags('routingAttention', { causal, balanced });
  const { scale, selfPenalty, epsilon, memory, masks } = options;
  checkNumbers('routingAttention', { scale, selfPenalty, epsilon });
  for (const name of balanced ? ofAssigned : ofBalanced) {
    if (options[name as keyof RoutingAttentionOperatorOptions] === undefined) continue;
    const remedy = balanced ? 'Leave it out with balanced' : 'It is for balanced: true';
    throw new ArgumentError('ERR_OPTION', 'routingAttention', name, 'given', remedy);
  }
  if (memory !== undefined) checkObject('routingAttention', 'memory', memory, '{ keys, values }');
  if (masks !== undefined) {
    checkOptions('routingAttention', masks, ['queries', 'keys']);
    for (const [name, t] of Object.entries(masks)) asTensor('routingAttention', `masks.${name}`, t);
  }
  asTensor('routingAttention', 'centroids', centroids);
  checkTokens(q, k, v, causal);
  return balanced
    ? balancedAttention(q, k, v, centroids, { ...options, window, keyWindow, causal })
    : clusterAttention(q, k, v, centroids, { ...options, window, causal });
}

function checkTokens(q: Tensor, k: Tensor | null, v: Tensor, causal: boolean): void {
  const named = { q, ...(k != null && { k }), v };
  for (const [name, t] of Object.entries(named)) {
    if (asTensor('routingAttention', name, t).rank === 4) continue;
    const remedy = 'It must be [B, H, tokens, D]';
    throw new ArgumentError('ERR_RANK', 'routingAttention', name, show(t), remedy);
  }
  const keys = k ?? q;
  const fits = (i: number) => keys.shape[i] === q.shape[i] && v.shape[i] === q.shape[i];
  if (!fits(0) || !fits(1) || keys.shape[2] !== v.shape[2] || keys.shape[3] !== q.shape[3]) {
    const remedy = `With q ${show(q)} and ${k ? `k ${show(k)}` : 'no keys'} it must be [B, H, M, Dv], of the same heads`;
    throw new ArgumentError('ERR_SHAPE', 'routingAttention', k ? 'k' : 'v', show(k ?? v), remedy);
  }
  if (causal && keys.shape[2] !== q.shape[2]) {
    const remedy = 'Causal attention needs a key for each query; or use causal: false';
    throw new ArgumentError('ERR_SHAPE', 'routingAttention', 'k', show(keys), remedy);
  }
}

/** @internal Keys, the scale for them, and what becomes of a token's pair with itself. */
export function keysOf(q: Tensor, k: Tensor | null, options: RoutingAttentionOperatorOptions) {
  const { scale = 1 / Math.sqrt(q.shape[3] as number), selfPenalty = lastResort } = options;
  const { keys, ...unit } = k ? { keys: k, scale } : unitKeys(q, { scale });
  const self = options.self ?? (k ? ('ordinary' as const) : ('lastResort' as const));
  return { keys, ...unit, self, selfPenalty };
}

type Checked = RoutingAttentionOperatorOptions & { window: number; causal: boolean };

function clusterAttention(
  q: Tensor,
  k: Tensor | null,
  v: Tensor,
  centroids: Tensor,
  options: Checked,
): Tensor {
  const { window, causal, lengths = null, assignments, keyAssignments } = options;
  const { keyLengths = k ? null : lengths } = options;
  const clusters = centroids.shape[1] as number;
  const sorted = (x: Tensor, given: Tensor | undefined, its: Tensor | null) => {
    const found = given ? null : kmeansAssign(x, centroids, { lengths: its });
    const groups = given ?? (found as { assignments: Tensor }).assignments;
    const [b, h, n] = groups.shape as [number, number, number];
    const round = reshape(groups, [b, h, 1, n]);
    const order = bucketSort(round, clusters);
    round.dispose();
    found?.assignments.dispose();
    found?.scores.dispose();
    return [order.order, order.offsets];
  };
  const orders = decideOnce(() => [
    ...sorted(q, assignments, lengths),
    ...(k ? sorted(k, keyAssignments, keyLengths) : []),
  ]);
  const [queries, keys] = [orders.slice(0, 2), orders.slice(-2)].map(([order, offsets]) => ({
    order,
    offsets,
  })) as [SortedTokens, SortedTokens];
  const { keys: rows, ...how } = keysOf(q, k, options);
  const pattern = causal
    ? ({ kind: 'window', window } as const)
    : ({ kind: 'chunk', chunk: window, back: 1, forward: 1 } as const);
  return sortedAttention(q, rows, v, { queries, keys, pattern, causal, ...how })[0];
}

/** Rows [B, H, N, D] as [B * H * N, D]. */
function flat(x: Tensor): Tensor {
  return reshape(x, [-1, x.shape[3] as number]);
}

/**
 * Members of each cluster are gathered and attend to each other as in exact attention, all pairs of a cluster with a
 * bias that hides what is not seen; outputs go back to their tokens.
 */
function balancedAttention(
  q: Tensor,
  k: Tensor | null,
  v: Tensor,
  centroids: Tensor,
  options: Checked & { keyWindow: number },
): Tensor {
  const { window, keyWindow, lengths = null, epsilon = 0, memory } = options;
  const { keyLengths = k ? null : lengths } = options;
  const [batch, heads, n] = q.shape as [number, number, number, number];
  const [m, clusters] = [v.shape[2] as number, centroids.shape[1] as number];
  if (memory) {
    const dims = { keys: q.shape[3], values: v.shape[3] };
    for (const name of ['keys', 'values'] as const) {
      const t = asTensor('routingAttention', `memory.${name}`, memory[name]);
      const wanted = [heads, clusters, memory.keys.shape[2], dims[name]];
      if (t.rank === 4 && t.shape.every((d, i) => d === wanted[i])) continue;
      const remedy = `It must have shape [${wanted.join(', ')}]`;
      throw new ArgumentError('ERR_SHAPE', 'routingAttention', `memory.${name}`, show(t), remedy);
    }
  }
  const { keys, scale, self, selfPenalty } = keysOf(q, k, options);
  const unit = Math.sqrt(q.shape[3] as number); // length of a key that is its query's direction

  // Positions of members, [B * H, k, w]; rows of the flattened tokens; the bias between members.
  const [queryRows, isQuery, keyRows, bias] = decideOnce(() => {
    const queries = clusterMembers(q, centroids, window, { lengths });
    const others = k ? clusterMembers(k, centroids, keyWindow, { lengths: keyLengths }) : queries;
    return [
      rowsOf(queries, n),
      greaterEqual(queries, 0),
      rowsOf(others, m),
      biasOf(queries, others, {
        ...options,
        self,
        selfPenalty,
        slots: memory?.keys.shape[2] ?? 0,
        dtype: q.dtype === 'f64' ? 'f64' : 'f32',
      }),
    ];
  }) as [Tensor, Tensor, Tensor, Tensor];

  const members = (x: Tensor, rows: Tensor) => indexSelect(flat(x), 0, rows);
  const remember = (x: Tensor, slots: Tensor | undefined) => {
    if (!slots) return x;
    const all = expand(reshape(slots, [1, ...slots.shape]), [batch, ...slots.shape]);
    const wide = reshape(all, [batch * heads, ...slots.shape.slice(1)]);
    return concat([wide, x], 2);
  };
  const y = attention(
    members(q, queryRows),
    remember(members(keys, keyRows), memory && (k ? memory.keys : mul(memory.keys, unit))),
    remember(members(v, keyRows), memory?.values),
    { bias, scale },
  );
  const width = v.shape[3] as number;
  const here = reshape(isQuery, [-1, 1]);
  const ids = reshape(queryRows, [-1]);
  const sum = addSlices(where(here, reshape(y, [-1, width]), 0), 0, ids, batch * heads * n);
  const one = full([1, 1], 1, { dtype: y.dtype, device: y.device });
  const count = addSlices(where(here, one, 0), 0, ids, batch * heads * n);
  const divisor = epsilon > 0 ? add(count, epsilon) : maximum(count, 1);
  return reshape(div(sum, divisor), [batch, heads, n, width]);
}

/** Members [B, H, k, w] as rows of [B * H * N], [B * H, k, w]; the first of the head where there is none. */
function rowsOf(members: Tensor, n: number): Tensor {
  const [batch, heads, k, w] = members.shape as [number, number, number, number];
  const lines = batch * heads;
  const starts = tensor(
    Int32Array.from({ length: lines }, (_, line) => line * n),
    { shape: [lines, 1, 1], dtype: 'i32', device: members.device },
  );
  const positions = reshape(members, [lines, k, w]);
  return add(maximum(positions, 0), starts);
}

/** [B * H, k, w, slots + w']: 0 where a member sees another, -Infinity where not, -selfPenalty at itself. */
function biasOf(
  queries: Tensor,
  keys: Tensor,
  options: Checked & { slots: number; dtype: DType },
): Tensor {
  const { causal, self, selfPenalty = 0, masks = {}, slots } = options;
  const [batch, heads, k, w] = queries.shape as [number, number, number, number];
  const others = keys.shape[3] as number;
  const lines = batch * heads;
  const [at, of] = [reshape(queries, [lines, k, w, 1]), reshape(keys, [lines, k, 1, others])];
  const how = { dtype: options.dtype, device: queries.device };
  const hidden = [less(of, 0)];
  if (causal) hidden.push(greater(of, at));
  if (masks.queries) hidden.push(isMasked(masks.queries, queries, [lines, k, w, 1]));
  if (masks.keys) hidden.push(isMasked(masks.keys, keys, [lines, k, 1, others]));
  if (self === 'hidden') hidden.push(equal(of, at));
  const unseen = hidden.reduce((a, b) => logicalOr(a, b));
  const itself = equal(of, at);
  const zero = full([1], 0, how);
  let bias = where(unseen, Number.NEGATIVE_INFINITY, zero);
  if (self === 'penalised') bias = where(itself, add(bias, -selfPenalty), bias);
  if (self === 'lastResort') {
    const alone = where(logicalOr(unseen, itself), Number.NEGATIVE_INFINITY, zero);
    // A large negative logit would cost digits where a token sees itself alone: it is visible or not.
    const rest =
      slots > 0 ? null : sum(where(logicalOr(unseen, itself), zero, 1), [3], { keepDims: true });
    bias = rest ? where(equal(rest, 0), bias, alone) : alone;
  }
  const wide = expand(bias, [lines, k, w, others]);
  return slots === 0 ? wide : concat([full([lines, k, w, slots], 0, how), wide], 3);
}

/** Whether the mask [B, N] is 0 at each member. */
function isMasked(mask: Tensor, members: Tensor, shape: number[]): Tensor {
  const [batch, heads] = members.shape as [number, number];
  const n = mask.shape[1] as number;
  const ofHeads = expand(reshape(mask, [batch, 1, n]), [batch, heads, n]);
  return logicalNot(reshape(indexSelect(reshape(ofHeads, [-1]), 0, rowsOf(members, n)), shape));
}
