import { attention, expand, type Tensor, tensor } from 'longspan';
import {
  type Adapter,
  type CaseInputs,
  type Computed,
  gradientsOf,
  type NotOffered,
  notOffered,
} from '../adapter.js';

interface Params {
  causal: boolean;
  window?: [left: number, right: number];
  scale: number;
  softcap?: number;
}

/** i32 [B] lengths of a mask [B, ..., N] whose ones come first; undefined where they do not. */
export function lengthsOf(inputs: CaseInputs, name: string): Tensor | undefined {
  const { shape, data } = inputs.host(name);
  const [batch, n] = [shape[0], shape[shape.length - 1]];
  const lengths: number[] = [];
  for (let b = 0; b < batch; b++) {
    const row = data.subarray(b * n, (b + 1) * n);
    const length = row.reduce((sum, one) => sum + one, 0);
    if (row.subarray(0, length).includes(0)) return undefined;
    lengths.push(length);
  }
  return data.length === batch * n ? inputs.make(lengths, [batch], 'i32') : undefined;
}

/** A statistic of f32, or f64 in f64. */
function wide(inputs: CaseInputs, name: string): Tensor {
  const { data, shape } = inputs.host(name);
  return inputs.make(data, shape, inputs.dtype === 'f64' ? 'f64' : 'f32');
}

function exact(inputs: CaseInputs): Computed | NotOffered {
  const { causal, window, scale, softcap = 0 } = inputs.params<Params>();
  const lengths: { keyLengths?: Tensor; queryLengths?: Tensor } = {};
  for (const [option, mask] of [
    ['keyLengths', 'key_padding_mask'],
    ['queryLengths', 'query_padding_mask'],
  ] as const) {
    if (!inputs.has(mask)) continue;
    const found = lengthsOf(inputs, mask);
    if (!found) return notOffered('padding elsewhere than at the end');
    lengths[option] = found;
  }
  const [q, k, v] = ['q', 'k', 'v'].map((name) => inputs.leaf(name));
  const [out, lse] = attention(q, k, v, {
    ...{ causal, scale, ...lengths, returnLse: true },
    ...(window && { window }),
    ...(softcap > 0 && { softcap }),
    ...(inputs.has('alibi_slopes') && { alibiSlopes: wide(inputs, 'alibi_slopes') }),
    ...(inputs.has('cu_seqlens_q') && {
      cuSeqlens: { queries: inputs.tensor('cu_seqlens_q'), keys: inputs.tensor('cu_seqlens_k') },
    }),
  });
  const upstream: [Tensor, Tensor][] = [[out, inputs.tensor('d_out')]];
  if (inputs.has('d_lse')) upstream.push([lse, wide(inputs, 'd_lse')]);
  const gradients = gradientsOf(upstream, { 'grad.q': q, 'grad.k': k, 'grad.v': v });
  if (!inputs.has('query_padding_mask')) return { out, lse, ...gradients };
  const mask = inputs.host('query_padding_mask').data;
  const [, heads, n] = lse.shape;
  const offers = (i: number): boolean => mask[Math.floor(i / (heads * n)) * n + (i % n)] === 1;
  const otherwise =
    'queries that are padding see nothing: -Infinity, where the case goes on to count';
  return { out, lse: { values: lse, offers, otherwise }, ...gradients };
}

export const exactAttention: Adapter = {
  mechanism: 'exact_softmax_attention',
  single: true,
  run: exact,
};

/** Values [B, H, M, M] whose attention is its probabilities: key j's is the unit vector j. */
export function identityValues(k: Tensor): Tensor {
  const [batch, heads, keys] = k.shape;
  const unit = Uint8Array.from({ length: keys * keys }, (_, i) => Number(i % (keys + 1) === 0));
  const one = tensor(unit, { shape: [1, 1, keys, keys], dtype: k.dtype, device: k.device });
  return expand(one, [batch, heads, keys, keys]);
}

/** Its masks are causal, or the padding of keys; the probabilities are what identity values give. */
function scaledDotProduct(inputs: CaseInputs): Computed | NotOffered {
  const [q, k, v] = ['in.q', 'in.k', 'in.v'].map((name) => inputs.leaf(name));
  let options: { causal?: boolean; keyLengths?: Tensor } = {};
  if (inputs.has('in.mask')) {
    const { shape, data } = inputs.host('in.mask');
    const [n, m] = shape.slice(-2);
    const causal =
      n > 1 && data.every((seen, i) => seen === Number(i % m <= (i % (n * m)) / m + m - n));
    const keyLengths = causal ? undefined : lengthsOf(inputs, 'in.mask');
    if (!causal && !keyLengths) return notOffered('masks other than causal ones and key padding');
    options = causal ? { causal } : { keyLengths };
  }
  const y = attention(q, k, v, options);
  const leaves = { 'grad.q': q, 'grad.k': k, 'grad.v': v };
  return {
    'out.y': y,
    'out.p': attention(q, k, identityValues(k), options),
    ...gradientsOf([[y, inputs.tensor('up.y')]], leaves),
  };
}

export const dotProductAttention: Adapter = {
  mechanism: 'attention',
  single: true,
  run: scaledDotProduct,
};
