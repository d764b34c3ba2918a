/** Attention by hashing, forward and backward, beside our own exact attention, and what it is made of. */
import {
  attention,
  bucketSort,
  type Generator,
  gradients,
  lshBuckets,
  Generator as makeGenerator,
  normal,
  rmsNorm,
  type SortedTokens,
  sortedAttention,
  type Tensor,
  tensor,
} from 'longspan';
import { type BenchCase, type BenchContext, defineBench, type Prepared } from '../harness/case.js';
import { ownWork } from '../harness/own-work.js';

interface Shape {
  n: number;
  heads: number;
  d: number;
  chunk: number;
  rounds: number;
}

interface Given {
  qk: Tensor;
  v: Tensor;
  upstream: Tensor;
  generator: Generator;
  buckets: number;
}

function givenOf({ device }: BenchContext, { n, heads, d, chunk }: Shape): Given {
  const generator = new makeGenerator(1, device);
  const make = () => normal([1, heads, n, d], { device, generator });
  return {
    qk: make().requireGrad(),
    v: make().requireGrad(),
    upstream: make(),
    generator,
    buckets: 2 * Math.ceil(n / chunk / 2),
  };
}

function sortedOf({ qk, generator, buckets }: Given, { rounds }: Shape): SortedTokens {
  const ids = lshBuckets(qk.detach(), { buckets, rounds, generator });
  const sorted = bucketSort(ids, buckets);
  ids.dispose();
  return sorted;
}

/** Groups of the same sizes whose rows lie one after another. */
function inOrder({ order, offsets }: SortedTokens, { n }: Shape): SortedTokens {
  const positions = Int32Array.from({ length: order.size }, (_, i) => i % n);
  const ascending = tensor(positions, { shape: order.shape, device: order.device });
  order.dispose();
  return { order: ascending, offsets };
}

/** Causal, chunks inside buckets, oneself as a last resort, duplicates corrected. */
function attended({ qk, v }: Given, queries: SortedTokens, { chunk, d }: Shape): Tensor {
  const keys = rmsNorm(qk, null, { eps: 1e-12 });
  const [o] = sortedAttention(qk, keys, v, {
    queries,
    pattern: { kind: 'chunk', chunk, back: 1 },
    ...{ causal: true, self: 'lastResort', duplicates: 'corrected', scale: 1 / d },
  });
  return o;
}

function prepared(given: Given, keep: () => Tensor[], more: Tensor[] = []): Prepared {
  return {
    // Rotations are drawn from a generator, orders are checked on the host.
    recordable: false,
    run: () => {
      for (const t of keep()) t.dispose();
    },
    keep,
    dispose: () => {
      for (const t of [given.qk, given.v, given.upstream, ...more]) t.dispose();
    },
  };
}

const gradientsOf = ({ qk, v, upstream }: Given, o: Tensor): Tensor[] =>
  gradients([o], [qk, v], { gradients: [upstream] }) as Tensor[];

function exact(context: BenchContext, shape: Shape): Prepared {
  const given = givenOf(context, shape);
  const { qk, v } = given;
  return prepared(given, () => gradientsOf(given, attention(qk, qk, v, { causal: true })));
}

export default defineBench({
  name: 'lsh-attention',
  cases(context) {
    const small = { n: 256, heads: 2, d: 32, chunk: 32, rounds: 2 };
    const shape: Shape = context.smoke
      ? small
      : { n: 16384, heads: 8, d: 64, chunk: 64, rounds: 4 };
    const long: Shape = context.smoke ? small : { ...shape, n: 65536 };
    const label = (s: Shape, what: string) =>
      `f32 B1 H${s.heads} N${s.n} D${s.d} ${s.rounds} rounds, chunk ${s.chunk}, causal, ${what}`;
    const both = (s: Shape): Prepared => {
      const given = givenOf(context, s);
      return prepared(given, () => {
        const sorted = sortedOf(given, s);
        const grads = gradientsOf(given, attended(given, sorted, s));
        sorted.order.dispose();
        sorted.offsets.dispose();
        return grads;
      });
    };
    // Both products of the same pairs: what is saved where no row has to be gathered.
    const alone = (order: (sorted: SortedTokens) => SortedTokens): Prepared => {
      const given = givenOf(context, shape);
      const sorted = order(sortedOf(given, shape));
      const made = [sorted.order, sorted.offsets];
      return prepared(given, () => gradientsOf(given, attended(given, sorted, shape)), made);
    };
    const operator = 'lshAttention';
    const rows: BenchCase[] = [
      {
        operator,
        shape: label(shape, 'forward + backward'),
        prepare: () => both(shape),
        peer: ownWork('exact', context.device, () => exact(context, shape)),
      },
      {
        operator,
        shape: label(shape, 'hash + sort'),
        prepare: () => {
          const given = givenOf(context, shape);
          return prepared(given, () => {
            const { order, offsets } = sortedOf(given, shape);
            return [order, offsets];
          });
        },
      },
      {
        operator,
        shape: label(shape, 'attention alone, forward'),
        prepare: () => {
          const given = givenOf(context, shape);
          const sorted = sortedOf(given, shape);
          const plain = { ...given, qk: given.qk.detach(), v: given.v.detach() };
          const made = [sorted.order, sorted.offsets];
          return prepared(given, () => [attended(plain, sorted, shape)], made);
        },
      },
      {
        operator,
        shape: label(shape, 'attention alone, rows in order'),
        prepare: () => alone((sorted) => inOrder(sorted, shape)),
        peer: ownWork('rows gathered', context.device, () => alone((sorted) => sorted)),
      },
    ];
    if (!context.smoke) {
      rows.push({
        operator,
        shape: label(long, 'forward + backward'),
        tokens: long.n,
        prepare: () => both(long),
      });
    }
    return rows;
  },
});
