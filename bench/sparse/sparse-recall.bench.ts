/** How many of a token's nearest neighbours it sees, against rounds of hashing and against the window of routing. */
import {
  add,
  type CurveOptions,
  type Device,
  Generator,
  indexSelect,
  kmeansInitialise,
  lshAttention,
  lshRotations,
  mul,
  normal,
  randint,
  reshape,
  routingAttention,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from 'longspan';
import { type BenchCase, type BenchContext, defineBench } from '../harness/case.js';
import type { BenchRow } from '../harness/result.js';

const d = 64;
const chunk = 64;
/** Tokens of a sequence that are like each other. */
const alike = 16;
/** Neighbours of a token that count. */
const nearest = 4;
/** Columns of the identity that are looked at together. */
const width = 64;
const cosines = [0.9, 0.7, 0.5];

/** What a token attends to, by values: linear in them. */
type Attend = (v: Tensor) => Tensor;
interface Attending {
  attend: Attend;
  dispose(): void;
}

interface Way {
  /** What grows along the picture. */
  label: string;
  sizes(n: number): number[];
  prepare(x: Tensor, size: number, generator: Generator): Attending;
}

const clustersOf = (n: number) => Math.round(Math.sqrt(n));
/** Weights are all but equal: those of seen tokens cannot vanish beside others. */
const scale = 1e-6;

const ways: Record<string, Way> = {
  LSH: {
    label: 'rounds',
    sizes: () => [1, 2, 4, 8, 16],
    prepare(x, rounds, generator) {
      const buckets = 2 * Math.ceil((x.shape[2] as number) / chunk / 2);
      const rotations = lshRotations(x, { buckets, rounds, generator });
      return {
        attend: (v) => lshAttention(x, v, { causal: true, buckets, chunk, rotations, scale }),
        dispose: () => rotations.dispose(),
      };
    },
  },
  routing: {
    label: 'window',
    sizes: (n) => [1, 2, 4, 8, 16].map((times) => times * Math.ceil(clustersOf(n) / 4)),
    prepare(x, window) {
      const { device } = x;
      const sizes = [1, clustersOf(x.shape[2] as number), d];
      const centroids = zeros(sizes, { device });
      const more = [
        zeros(sizes, { device }),
        zeros(sizes.slice(0, 2), { device }),
        zeros([4], { dtype: 'i32', device }),
      ] as const;
      const [sums, counts, generator] = more;
      kmeansInitialise({ centroids, sums, counts, generator }, x);
      for (const t of more) t.dispose();
      return {
        attend: (v) => routingAttention(x, null, v, centroids, { window, scale }),
        dispose: () => centroids.dispose(),
      };
    },
  },
};

/** Tokens in groups of about `alike`, at random places; `cosine` between those of a group. */
function tokens(n: number, cosine: number, generator: Generator): Tensor {
  const { device } = generator;
  return tidy(() => {
    const groups = Math.ceil(n / alike);
    const centres = normal([groups, d], { device, generator });
    const own = indexSelect(centres, 0, randint([n], 0, groups, { device, generator }));
    const noise = normal([n, d], { device, generator });
    const x = add(mul(own, Math.sqrt(cosine)), mul(noise, Math.sqrt(1 - cosine)));
    return reshape(x, [1, 1, n, d]);
  });
}

/** Of some tokens of the second half, the `nearest` ones before by direction. */
function neighbours(x: Tensor): Map<number, number[]> {
  const n = x.shape[2] as number;
  const data = x.dataSync() as Float32Array;
  const row = (i: number) => data.subarray(i * d, (i + 1) * d);
  const dot = (a: Float32Array, b: Float32Array) =>
    a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
  const lengths = Array.from({ length: n }, (_, i) => Math.sqrt(dot(row(i), row(i))));
  const found = new Map<number, number[]>();
  for (let i = n / 2; i < n; i += Math.max(1, n >> 9)) {
    const near = Array.from({ length: i }, (_, j) => {
      return { j, cosine: dot(row(i), row(j)) / (lengths[j] as number) };
    });
    near.sort((a, b) => b.cosine - a.cosine);
    found.set(
      i,
      near.slice(0, nearest).map(({ j }) => j),
    );
  }
  return found;
}

/** Share of the neighbours that have a weight: where values are rows of the identity, outputs are weights. */
function recallOf(attend: Attend, x: Tensor): number {
  const n = x.shape[2] as number;
  const wanted = neighbours(x);
  let [seen, all] = [0, 0];
  for (let start = 0; start < n; start += width) {
    const weights = tidy(() => attend(identity(n, start, x.device)).dataSync());
    for (const [i, near] of wanted) {
      for (const j of near) {
        if (j < start || j >= start + width) continue;
        all++;
        seen += Number((weights[i * width + j - start] as number) > 0);
      }
    }
  }
  return seen / all;
}

/** Columns `start` to `start + width` of the identity, [1, 1, n, width]. */
function identity(n: number, start: number, device: Device): Tensor {
  const data = new Float32Array(n * width);
  for (let i = 0; i < width && start + i < n; i++) data[(start + i) * width + i] = 1;
  return tensor(data, { shape: [1, 1, n, width], device });
}

const operatorOf = (way: string) => `neighbours, ${way}`;

function caseOf({ device }: BenchContext, n: number, way: string, size: number, cosine: number) {
  const { label, prepare } = ways[way] as Way;
  const made: BenchCase = {
    operator: operatorOf(way),
    shape: `f32 forward B1 H1 N${n} D${d}, causal, cosine ${cosine}, ${label} ${size}`,
    prepare() {
      const generator = new Generator(1, device);
      const x = tokens(n, cosine, generator);
      const v = normal([1, 1, n, d], { device, generator });
      const { attend, dispose } = prepare(x, size, generator);
      return {
        recordable: false, // orders are checked on the host
        run: () => attend(v).dispose(),
        recall: () => recallOf(attend, x),
        dispose() {
          dispose();
          for (const t of [x, v]) t.dispose();
        },
      };
    },
  };
  return made;
}

function curves(rows: readonly BenchRow[], way: string, subtitle: string): CurveOptions {
  const { label } = ways[way] as Way;
  const own = rows.filter(({ operator }) => operator === operatorOf(way));
  const number = (name: string, { shape }: BenchRow) =>
    Number(new RegExp(`, ${name} ([\\d.]+)`).exec(shape)?.[1]);
  return {
    title: `Nearest neighbours that a token sees, ${way}`,
    subtitle,
    ...{ xLabel: label, yLabel: '% seen', logX: true },
    series: cosines.map((cosine) => {
      const points = own
        .filter((row) => number('cosine', row) === cosine)
        .map((row) => ({ x: number(label, row), y: 100 * (row.recall ?? Number.NaN) }))
        .sort((a, b) => a.x - b.x);
      return {
        name: `cosine ${cosine}`,
        x: points.map(({ x }) => x),
        y: points.map(({ y }) => y),
      };
    }),
  };
}

const lengthOf = ({ smoke }: BenchContext) => (smoke ? 128 : 4096);

export default defineBench({
  name: 'sparse-recall',
  cases(context) {
    const n = lengthOf(context);
    return Object.entries(ways).flatMap(([way, { sizes }]) =>
      cosines.flatMap((cosine) =>
        sizes(n)
          .slice(0, context.smoke ? 3 : undefined)
          .map((size) => caseOf(context, n, way, size, cosine)),
      ),
    );
  },
  pictures(rows, context): Record<string, CurveOptions> {
    const n = lengthOf(context);
    const of = `${nearest} nearest of ${n} tokens in groups of ${alike}, by the cosine within a group`;
    return {
      'lsh-recall': curves(rows, 'LSH', `${of}; chunks of ${chunk}, causal`),
      'routing-recall': curves(rows, 'routing', `${of}; ${clustersOf(n)} clusters, causal`),
    };
  },
});
