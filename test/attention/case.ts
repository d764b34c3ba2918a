/** Running attention on the cases of its twin. */
import { type AttentionOptions, attention, gradients, type Tensor, tensor } from 'longspan';
import type { AttentionCase } from '../reference/attention.js';
import { type FloatType, rounded, tensorOf, values } from '../support/compare.js';
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

export function optionsOf(c: AttentionCase): AttentionOptions {
  const lengths = (x: ArrayLike<number> | undefined) =>
    x === undefined ? {} : { lengths: tensor(Int32Array.from(x)) };
  const key = lengths(c.keyLengths).lengths;
  const query = lengths(c.queryLengths).lengths;
  return {
    ...(c.causal ? { causal: true } : {}),
    ...(c.scale === undefined ? {} : { scale: c.scale }),
    ...(c.window ? { window: c.window } : {}),
    ...(c.softcap ? { softcap: c.softcap } : {}),
    ...(key ? { keyLengths: key } : {}),
    ...(query ? { queryLengths: query } : {}),
  };
}

export interface Outcome {
  o: Float64Array;
  lse: Float64Array;
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
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
  }: {
    store?: (t: Tensor) => Tensor;
    view?: (t: Tensor) => Tensor;
    layout?: 'bhnd' | 'bnhd';
  } = {},
): Outcome {
  const leaf = (x: Float64Array, shape: number[]) => store(tensorOf(x, shape, dtype)).requireGrad();
  const q = leaf(data.q, [c.b, c.hq, c.n, c.d]);
  const k = leaf(data.k, [c.b, c.hkv, c.m, c.d]);
  const v = leaf(data.v, [c.b, c.hkv, c.m, c.dv]);
  const [o, lse] = attention(view(q), view(k), view(v), {
    ...optionsOf(c),
    layout,
    returnLse: true,
  });
  const upstream = tensorOf(data.gradO, [c.b, c.hq, c.n, c.dv], dtype);
  const grads = gradients([o, lse], [q, k, v], {
    gradients: [
      layout === 'bnhd' ? upstream.permute(0, 2, 1, 3).contiguous() : upstream,
      tensorOf(data.gradLse, [c.b, c.hq, c.n], dtype === 'f64' ? 'f64' : 'f32'),
    ],
    retainGraph: true,
  });
  const [gq, gk, gv] = grads as [Tensor, Tensor, Tensor];
  return {
    o: values(layout === 'bnhd' ? o.permute(0, 2, 1, 3) : o),
    lse: values(lse),
    q: values(gq),
    k: values(gk),
    v: values(gv),
  };
}
