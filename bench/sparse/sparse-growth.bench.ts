/** Time and memory of forward and backward against the length: by hashing, by routing, and exact. */
import {
  attention,
  type CurveOptions,
  Generator,
  gradients,
  lshAttention,
  normal,
  routingAttention,
  type Tensor,
  tidy,
} from 'longspan';
import { type BenchCase, type BenchContext, defineBench } from '../harness/case.js';
import type { BenchRow } from '../harness/result.js';
import { exponent } from '../harness/statistics.js';

const heads = 2;
const d = 64;
const chunk = 64;
const rounds = 4;
/** Shorter ones are bound by what does not grow. */
const fittedFrom = 4096;

interface Way {
  /** What a query sees among N tokens. */
  describe(n: number): string;
  longest: number;
  attend(q: Tensor, k: Tensor, v: Tensor, fixed: Fixed): Tensor;
}

interface Fixed {
  n: number;
  centroids: Tensor;
  generator: Generator;
}

const root = (n: number) => Math.round(Math.sqrt(n));
const ways: Record<string, Way> = {
  exact: {
    describe: () => 'all keys',
    longest: 1 << 14,
    attend: (q, k, v) => attention(q, k, v, { causal: true }),
  },
  LSH: {
    describe: () => `chunk ${chunk}, ${rounds} rounds`,
    longest: 1 << 16,
    attend: (q, _k, v, { n, generator }) =>
      lshAttention(q, v, {
        ...{ causal: true, buckets: 2 * Math.ceil(n / chunk / 2), chunk, rounds, generator },
      }),
  },
  routing: {
    describe: (n) => `k${root(n)} w${root(n)}`,
    longest: 1 << 16,
    attend: (q, k, v, { n, centroids }) =>
      routingAttention(q, k, v, centroids, { window: root(n) }),
  },
};
const operatorOf = (way: string) => `growth, ${way}`;

function forwardAndBackward({ device }: BenchContext, way: string, n: number): BenchCase {
  const { attend, describe } = ways[way] as Way;
  return {
    operator: operatorOf(way),
    shape: `f32 forward + backward B1 H${heads} N${n} D${d}, causal, ${describe(n)}`,
    tokens: n,
    prepare() {
      const generator = new Generator(1, device);
      const make = () => normal([1, heads, n, d], { device, generator });
      const leaves = [make(), make(), make()].map((t) => t.requireGrad());
      const [q, k, v] = leaves as [Tensor, Tensor, Tensor];
      const upstream = make();
      const centroids = normal([heads, root(n), d], { device, generator });
      const used = way === 'LSH' ? [q, v] : leaves;
      const keep = () =>
        tidy(() => {
          const y = attend(q, k, v, { n, centroids, generator });
          return [y, ...(gradients([y], used, { gradients: [upstream] }) as Tensor[])];
        });
      return {
        recordable: false, // rotations are drawn from a generator, orders are checked on the host
        run: () => keep().forEach((t) => void t.dispose()),
        keep,
        dispose: () => [...leaves, upstream, centroids].forEach((t) => void t.dispose()),
      };
    },
  };
}

interface Growth {
  way: string;
  n: number[];
  seconds: number[];
  bytes: number[];
  /** Fitted exponents of N. */
  time: number;
  memory: number;
}

function growths(rows: readonly BenchRow[]): Growth[] {
  return Object.keys(ways).map((way) => {
    const own = rows
      .filter(({ operator }) => operator === operatorOf(way))
      .map(({ shape, seconds, peakBytes = 0 }) => {
        return { n: Number(/ N(\d+)/.exec(shape)?.[1]), seconds, bytes: peakBytes };
      })
      .sort((a, b) => a.n - b.n);
    const long = own.filter(({ n }) => n >= fittedFrom);
    const fitted = long.length > 1 ? long : own;
    const of = (points: typeof own, name: 'n' | 'seconds' | 'bytes') => points.map((p) => p[name]);
    return {
      way,
      ...{ n: of(own, 'n'), seconds: of(own, 'seconds'), bytes: of(own, 'bytes') },
      time: exponent(of(fitted, 'n'), of(fitted, 'seconds')),
      memory: exponent(of(fitted, 'n'), of(fitted, 'bytes')),
    };
  });
}

export default defineBench({
  name: 'sparse-growth',
  cases(context) {
    const lengths = context.smoke ? [64, 128] : [10, 11, 12, 13, 14, 15, 16].map((e) => 1 << e);
    return Object.entries(ways).flatMap(([way, { longest }]) =>
      lengths.filter((n) => n <= longest).map((n) => forwardAndBackward(context, way, n)),
    );
  },
  figures(rows) {
    return Object.fromEntries(
      growths(rows).flatMap(({ way, time, memory }) => [
        [`exponent of N, time, ${way}`, time],
        [`exponent of N, memory, ${way}`, memory],
      ]),
    );
  },
  pictures(rows, { device }): Record<string, CurveOptions> {
    const found = growths(rows);
    const common = {
      subtitle: `${heads} heads of ${d}, f32, causal, on ${device.name}; exponents fitted from N = ${fittedFrom}`,
      ...{ xLabel: 'tokens', logX: true, logY: true },
    };
    return {
      'sparse-time': {
        ...common,
        title: 'Time of attention, forward and backward',
        yLabel: 'seconds',
        series: found.map(({ way, n, seconds, time }) => {
          return { name: `${way}: N^${time.toFixed(2)}`, x: n, y: seconds };
        }),
      },
      'sparse-memory': {
        ...common,
        title: 'Most memory of attention, forward and backward',
        yLabel: 'MB',
        series: found.map(({ way, n, bytes, memory }) => {
          return { name: `${way}: N^${memory.toFixed(2)}`, x: n, y: bytes.map((b) => b / 1e6) };
        }),
      },
    };
  },
});
