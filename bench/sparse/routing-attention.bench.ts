/** Attention by k-means routing, forward and backward, beside our own exact attention, and what training adds. */
import {
  attention,
  clusterSums,
  gradients,
  kmeansAssign,
  normal,
  routingAttention,
  type Tensor,
} from 'longspan';
import { type BenchContext, defineBench, type Prepared } from '../harness/case.js';
import { ownWork } from '../harness/own-work.js';

interface Shape {
  n: number;
  heads: number;
  d: number;
  clusters: number;
  window: number;
}

type Attend = (q: Tensor, k: Tensor, v: Tensor, centroids: Tensor) => Tensor;

/** Forward and backward of one layer's heads. */
function layer({ device }: BenchContext, { n, heads, d, clusters }: Shape, attend: Attend) {
  const make = () => normal([1, heads, n, d], { device });
  const leaves = [make(), make(), make()].map((t) => t.requireGrad());
  const [q, k, v] = leaves as [Tensor, Tensor, Tensor];
  const upstream = make();
  const centroids = normal([heads, clusters, d], { device });
  const prepared: Prepared = {
    recordable: false, // orders are checked on the host
    run() {
      const o = attend(q, k, v, centroids);
      for (const g of gradients([o], leaves, { gradients: [upstream] })) g?.dispose();
      o.dispose();
    },
    dispose() {
      for (const t of [...leaves, upstream, centroids]) t.dispose();
    },
  };
  return prepared;
}

/** Clusters of a batch, and their sums. */
function clustering({ device }: BenchContext, { n, heads, d, clusters }: Shape): Prepared {
  const x = normal([1, heads, n, d], { device });
  const centroids = normal([heads, clusters, d], { device });
  return {
    run() {
      const { assignments, scores } = kmeansAssign(x, centroids);
      const { sums, counts } = clusterSums(x, assignments, clusters);
      for (const t of [assignments, scores, sums, counts]) t.dispose();
    },
    dispose() {
      for (const t of [x, centroids]) t.dispose();
    },
  };
}

export default defineBench({
  name: 'routing-attention',
  cases(context) {
    const shape: Shape = context.smoke
      ? { n: 256, heads: 2, d: 32, clusters: 8, window: 32 }
      : { n: 16384, heads: 8, d: 64, clusters: 128, window: 128 };
    const { n, heads, d, clusters, window } = shape;
    const label = (what: string) => `N${n} H${heads} D${d} k${clusters} w${window} ${what}`;
    const operator = 'routingAttention';
    return [
      {
        operator,
        shape: label('forward + backward'),
        prepare: () =>
          layer(context, shape, (q, k, v, centroids) =>
            routingAttention(q, k, v, centroids, { window }),
          ),
        peer: ownWork('exact', context.device, () =>
          layer(context, shape, (q, k, v) => attention(q, k, v, { causal: true })),
        ),
      },
      {
        operator,
        shape: label('assignment + sums'),
        flops: 2 * heads * n * clusters * d,
        prepare: () => clustering(context, shape),
      },
    ];
  },
});
