/** Running attention on the cases of its twin. */
import { type AttentionOptions, attention, BlockMask, gradients, Tensor, tensor } from 'longspan';
import {
  type AttentionCase,
  attentionGradients,
  attentionReference,
} from '../reference/attention.js';
import { philoxWords } from '../reference/philox.js';
import { expectClose, type FloatType, rounded, tensorOf, values } from '../support/compare.js';
import { Random } from '../support/random.js';

export interface CaseData {
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  gradO: Float64Array;
  gradLse: Float64Array;
}

/** Random inputs and upstream gradients, none for rows without keys in the log-sum-exp. */
export function dataOf(c: AttentionCase, seed = 7): CaseData {
  const random = new Random(seed);
  return {
    q: random.normal(c.b * c.hq * c.n * c.d),
    k: random.normal(c.b * c.hkv * c.m * c.d),
    v: random.normal(c.b * c.hkv * c.m * c.dv),
    gradO: random.normal(c.b * c.hq * c.n * c.dv),
    gradLse: random.normal(c.b * c.hq * c.n),
  };
}

export function roundData(data: CaseData, dtype: FloatType): CaseData {
  const wide = dtype === 'f64' ? 'f64' : 'f32';
  return {
    q: rounded(data.q, dtype),
    k: rounded(data.k, dtype),
    v: rounded(data.v, dtype),
    gradO: rounded(data.gradO, dtype),
    gradLse: rounded(data.gradLse, wide),
  };
}

const integers = (x: ArrayLike<number>, shape?: number[]): Tensor =>
  tensor(Int32Array.from(x), shape ? { shape } : {});

/** The options of a case; floating ones in `wide`, those that are leaves require gradients. */
export function optionsOf(
  c: AttentionCase,
  wide: 'f32' | 'f64' = 'f32',
  dtype: FloatType = wide,
): AttentionOptions {
  const { querySegments, keySegments, bias } = c;
  return {
    ...(c.causal ? { causal: true } : {}),
    ...(c.scale === undefined ? {} : { scale: c.scale }),
    ...(c.window ? { window: c.window } : {}),
    ...(c.softcap ? { softcap: c.softcap } : {}),
    ...(c.keyLengths && { keyLengths: integers(c.keyLengths) }),
    ...(c.queryLengths && { queryLengths: integers(c.queryLengths) }),
    ...(c.prefixLengths && { prefixLengths: integers(c.prefixLengths) }),
    ...(querySegments &&
      keySegments && {
        segmentIds: {
          queries: integers(querySegments, [c.b, c.n]),
          keys: integers(keySegments, [c.b, c.m]),
        },
      }),
    ...(bias && { bias: tensorOf(bias.data, [...bias.shape], dtype).requireGrad() }),
    ...(c.alibiSlopes && {
      alibiSlopes: tensorOf(Float64Array.from(c.alibiSlopes), [c.hq], wide),
    }),
    ...(c.sinks && { sinks: tensorOf(Float64Array.from(c.sinks), [c.hq], wide).requireGrad() }),
  };
}

/** Options with their tensors on `on`, requiring gradients as before. */
export function movedTo(on: string, options: AttentionOptions): AttentionOptions {
  const moved = (x: unknown): unknown => {
    if (x instanceof Tensor) return x.requiresGrad ? x.detach().to(on).requireGrad() : x.to(on);
    if (x instanceof BlockMask) return x.to(on);
    const isPair = typeof x === 'object' && x !== null && 'queries' in x && 'keys' in x;
    if (!isPair) return x;
    return { queries: moved(x.queries), keys: moved(x.keys) };
  };
  return Object.fromEntries(
    Object.entries(options).map(([name, x]) => [name, moved(x)]),
  ) as AttentionOptions;
}

export interface Outcome {
  o: Float64Array;
  lse: Float64Array;
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  /** Gradients, empty where the case has none. */
  bias: Float64Array;
  sinks: Float64Array;
}

/**
 * Results and gradients of one case.
 *
 * @param view makes the operand of a stored tensor, for example by permuting it
 * @param options.layout given when `view` changes the order of heads and tokens
 */
export function runCase(
  c: AttentionCase,
  data: CaseData,
  dtype: FloatType,
  {
    store = (t: Tensor) => t,
    view = (t: Tensor) => t,
    layout = 'bhnd',
    options = {},
    on = 'cpu',
  }: {
    store?: (t: Tensor) => Tensor;
    view?: (t: Tensor) => Tensor;
    layout?: 'bhnd' | 'bnhd';
    options?: AttentionOptions;
    /** Where it runs, tensors among the options included. */
    on?: string;
  } = {},
): Outcome {
  const leaf = (x: Float64Array, shape: number[]) =>
    store(tensorOf(x, shape, dtype))
      .to(on)
      .requireGrad();
  const q = leaf(data.q, [c.b, c.hq, c.n, c.d]);
  const k = leaf(data.k, [c.b, c.hkv, c.m, c.d]);
  const v = leaf(data.v, [c.b, c.hkv, c.m, c.dv]);
  const wide = dtype === 'f64' ? 'f64' : 'f32';
  const given = movedTo(on, { ...optionsOf(c, wide, dtype), ...options });
  const [o, lse] = attention(view(q), view(k), view(v), { ...given, layout, returnLse: true });
  const upstream = tensorOf(data.gradO, [c.b, c.hq, c.n, c.dv], dtype).to(on);
  const extra = [given.bias, given.sinks].filter((t) => t !== undefined);
  const grads = gradients([o, lse], [q, k, v, ...extra], {
    gradients: [
      layout === 'bnhd' ? upstream.permute(0, 2, 1, 3).contiguous() : upstream,
      tensorOf(data.gradLse, [c.b, c.hq, c.n], wide).to(on),
    ],
    retainGraph: true,
  });
  const [gq, gk, gv, ...rest] = grads as [Tensor, Tensor, Tensor, ...Tensor[]];
  const none = new Float64Array(0);
  const gradBias = given.bias ? values(rest.shift() as Tensor) : none;
  const gradSinks = given.sinks ? values(rest.shift() as Tensor) : none;
  return {
    o: values(layout === 'bnhd' ? o.permute(0, 2, 1, 3) : o),
    lse: values(lse),
    q: values(gq),
    k: values(gk),
    v: values(gv),
    bias: gradBias,
    sinks: gradSinks,
  };
}

export const square = (n: number, rest: Partial<AttentionCase> = {}): AttentionCase => ({
  b: 1,
  hq: 2,
  hkv: 2,
  n,
  m: n,
  d: 16,
  dv: 16,
  ...rest,
});

/** What dropout of this probability multiplies the weights with, for a new generator of this seed. */
export function keptOf(c: AttentionCase, seed: number, p: number): Float64Array {
  const row = Math.ceil(c.m / 4) * 4;
  const words = philoxWords(BigInt(seed), 0n, c.b * c.hq * c.n * row);
  const threshold = Math.round(p * 2 ** 24);
  return Float64Array.from({ length: c.b * c.hq * c.n * c.m }, (_, i) => {
    const word = words[Math.floor(i / c.m) * row + (i % c.m)] as number;
    return word >>> 8 < threshold ? 0 : 1 / (1 - p);
  });
}

/** Results and all gradients of a case against its twin. */
export function check(
  c: AttentionCase,
  dtype: FloatType = 'f32',
  how: Parameters<typeof runCase>[3] = {},
): void {
  const data = roundData(dataOf(c), dtype);
  const got = runCase(c, data, dtype, how);
  const { o, lse } = attentionReference(c, data.q, data.k, data.v);
  const grad = attentionGradients(c, data.q, data.k, data.v, data.gradO, data.gradLse);
  const unit = dtype === 'f64' ? 1e-12 : 4e-6;
  expectClose(got.o, o, { absolute: unit }, 'o');
  expectClose(got.lse, lse, { absolute: unit, relative: unit }, 'lse');
  for (const name of ['q', 'k', 'v', 'bias', 'sinks'] as const) {
    if (name === 'bias' && !c.bias) continue;
    if (name === 'sinks' && !c.sinks) continue;
    const scale = grad[name].reduce((most, x) => Math.max(most, Math.abs(x)), 1);
    expectClose(got[name], grad[name], { absolute: 2 * unit * scale }, `gradient of ${name}`);
  }
}

export const normal = (seed: number, count: number, scale = 1): Float64Array =>
  rounded(new Random(seed).normal(count, 0, scale), 'f32');

/** Runs of equal ids, of these lengths. */
export const runs = (...lengths: number[]): number[] =>
  lengths.flatMap((length, id) => new Array<number>(length).fill(id));

/** The same on a device, in the types it has, and small where that is an emulated GPU. */
export function onDevice(on: 'cpu' | 'cuda') {
  type How = Parameters<typeof check>[2];
  return {
    /** Types that hold results to f32 or better. */
    wideTypes: on === 'cpu' ? (['f32', 'f64'] as const) : (['f32'] as const),
    widest: on === 'cpu' ? ('f64' as const) : ('f32' as const),
    size: (full: number, emulated: number) => (on === 'cpu' ? full : emulated),
    check: (c: AttentionCase, dtype?: FloatType, how?: How) => check(c, dtype, { ...how, on }),
    runCase: (c: AttentionCase, data: CaseData, dtype: FloatType, how?: How) =>
      runCase(c, data, dtype, { ...how, on }),
  };
}

/** Options to try on 140 queries and 150 keys, in tiles of 64 or 128 of either. */
export const halfOptions: readonly [string, Partial<AttentionCase>][] = [
  ['no mask, grouped heads', { hq: 2 }],
  ['causal', { causal: true }],
  ['a window', { window: [50, 20] }],
  ['more queries than keys', { n: 200, m: 90, causal: true }],
  ['lengths', { b: 2, causal: true, keyLengths: [141, 9], queryLengths: [140, 70] }],
  ['prefixes', { b: 2, n: 70, causal: true, prefixLengths: [90, 3], keyLengths: [120, 150] }],
  ['softcap', { softcap: 2, scale: 0.5 }],
  ['segments', { querySegments: runs(60, 50, 30), keySegments: runs(60, 40, 50), causal: true }],
];
