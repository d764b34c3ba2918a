/** Decoding of routed attention: a ring of recent keys and values for each cluster. */
import { zeros } from '../core/create.js';
import { asTensor, field, nativeOperator } from '../core/declare.js';
import type { Device } from '../core/device.js';
import type { DType } from '../core/dtype.js';
import { checkInstance, checkNumbers, checkOptions, checkSizes } from '../core/options.js';
import { assign } from '../core/primitives.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { indexSelect } from '../dense/index-select.js';
import { kmeansAssign } from './kmeans.js';
import { keysOf, type RoutingAttentionOperatorOptions } from './routing-attention.js';

const routingStepCall = nativeOperator('routingStep', {
  keys: field.inout,
  values: field.inout,
  counts: field.inout,
  q: field.input,
  k: field.input,
  v: field.input,
  queryClusters: field.input,
  keyClusters: field.input,
  scale: field.number,
  lastResort: field.flag,
  selfPenalty: field.number,
  o: field.output,
});

/** Sizes of a {@link RoutingCache}. */
export interface RoutingCacheOptions {
  batch: number;
  heads: number;
  clusters: number;
  /** Keys that are kept of each cluster. */
  window: number;
  keyDim: number;
  /** Default: as `keyDim`. */
  valueDim?: number;
  dtype?: DType;
  device?: Device | string;
}

const sizes = ['batch', 'heads', 'clusters', 'window', 'keyDim'] as const;

/**
 * What routed attention remembers of the tokens so far: the last `window` keys and values of each cluster. Its
 * memory, and what a step costs, do not depend on how many tokens came. Survives `tidy`.
 *
 * @example
 * const cache = new RoutingCache({ batch: 1, heads: 2, clusters: 8, window: 32, keyDim: 16 });
 */
export class RoutingCache {
  /** [B, H, clusters, window, D]. */
  readonly keys: Tensor;
  /** [B, H, clusters, window, Dv]. */
  readonly values: Tensor;
  /** i32 [B, H, clusters]: tokens that came; token n lies in slot n % window. */
  readonly counts: Tensor;

  constructor(options: RoutingCacheOptions) {
    checkOptions('RoutingCache', options, [...sizes, 'valueDim', 'dtype', 'device']);
    const { batch, heads, clusters, window, keyDim, valueDim = keyDim } = options;
    checkSizes('RoutingCache', { batch, heads, clusters, window, keyDim, valueDim });
    const { dtype = 'f32', device = 'cpu' } = options;
    const rows = [batch, heads, clusters, window];
    this.keys = keep(zeros([...rows, keyDim], { dtype, device }));
    this.values = keep(zeros([...rows, valueDim], { dtype, device }));
    this.counts = keep(zeros(rows.slice(0, 3), { dtype: 'i32', device }));
  }

  /** Memory it holds, in bytes. */
  get byteLength(): number {
    return this.keys.byteLength + this.values.byteLength + this.counts.byteLength;
  }

  /**
   * Batch entry i continues what entry `parents[i]` was.
   * @param parents i32 [batch]
   */
  reorder(parents: Tensor): void {
    for (const t of [this.keys, this.values, this.counts]) {
      const moved = indexSelect(t, 0, parents);
      assign(t, moved);
      moved.dispose();
    }
  }

  /** Forgets everything, keeping the memory. */
  reset(): void {
    const none = zeros(this.counts.shape, { dtype: 'i32', device: this.counts.device });
    assign(this.counts, none);
    none.dispose();
  }

  dispose(): void {
    for (const t of [this.keys, this.values, this.counts]) t.dispose();
  }
}

/**
 * Takes T further tokens into `cache` and returns their outputs: those of {@link routingAttention} over the whole
 * sequence, causal and with the cache's window. A token costs its window, whatever came before it.
 *
 * @param q [B, H, T, D]; `k` and `v` likewise, k null where keys are the queries
 * @param centroids [H, clusters, D]; they must not move while a sequence is decoded
 * @returns [B, H, T, Dv], without gradients
 * @throws ArgumentError for shapes that do not fit the cache
 * @example
 * const cache = new RoutingCache({ batch: 1, heads: 2, clusters: 8, window: 32, keyDim: 16 });
 * const [q, k, v] = [normal([1, 2, 1, 16]), normal([1, 2, 1, 16]), normal([1, 2, 1, 16])];
 * const y = routingStep(q, k, v, normal([2, 8, 16]), cache);
 */
export function routingStep(
  q: Tensor,
  k: Tensor | null,
  v: Tensor,
  centroids: Tensor,
  cache: RoutingCache,
  options: Pick<RoutingAttentionOperatorOptions, 'scale' | 'selfPenalty'> = {},
): Tensor {
  checkOptions('routingStep', options, ['scale', 'selfPenalty']);
  checkNumbers('routingStep', options as Record<string, unknown>);
  checkInstance('routingStep', 'cache', cache, RoutingCache);
  const given = { q, ...(k != null && { k }), v, centroids };
  for (const [name, t] of Object.entries(given)) asTensor('routingStep', name, t);
  const made: Tensor[] = [];
  const clustersOf = (x: Tensor): Tensor => {
    const { assignments, scores } = kmeansAssign(x, centroids);
    made.push(assignments, scores);
    return assignments;
  };
  const queryClusters = clustersOf(q);
  const keyClusters = k ? clustersOf(k) : queryClusters;
  const { keys: rows, scale, self, selfPenalty } = keysOf(q, k, options);
  if (!k) made.push(rows);
  const { keys, values, counts } = cache;
  const { o } = routingStepCall({
    ...{ keys, values, counts, q, k: rows, v, queryClusters, keyClusters, scale, selfPenalty },
    lastResort: self === 'lastResort',
  });
  for (const t of [keys, values, counts]) t.storage.version++;
  for (const t of made) t.dispose();
  return o;
}
