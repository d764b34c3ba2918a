/** Exact attention on the vectors computed by other people's code. */
import { attention, gradients, type Tensor, tensor } from 'longspan';
import { type Golden, loadGolden } from '../goldens.js';
import { expectClose, type FloatType, tensorOf } from '../support/compare.js';

interface Params {
  causal: boolean;
  window: [number, number];
  scale: number;
  softcap: number;
  key_lengths: number[] | null;
  query_lengths: number[] | null;
}

function compare(
  golden: Golden,
  name: string,
  actual: Tensor,
  dtype: FloatType,
  expected = golden.tensor(name).data,
): void {
  const absolute = golden.manifest.tensors[name]?.atol?.[dtype];
  if (absolute === undefined) throw new Error(`${golden.manifest.id}: no tolerance for ${name}`);
  expectClose(actual, expected, { absolute }, `${golden.manifest.id} ${name}`);
}

/** The case computes a log-sum-exp for padded queries too; here they do not exist. */
function lseOf(golden: Golden, queryLengths: readonly number[] | null): Float64Array {
  const { data, shape } = golden.tensor('lse');
  const [, heads, rows] = shape as [number, number, number];
  return data.map((x, i) => {
    const length = queryLengths?.[Math.floor(i / rows / heads)] ?? rows;
    return i % rows < length ? x : Number.NEGATIVE_INFINITY;
  });
}

const leaf = (golden: Golden, name: string, dtype: FloatType) => {
  const { data, shape } = golden.tensor(name);
  return tensorOf(data, shape, dtype);
};

const exact = [
  'exact_causal',
  'exact_causal_sq_gt_sk',
  'exact_causal_sq_lt_sk',
  'exact_d64',
  'exact_decode_gqa',
  'exact_dv_ne_dk',
  'exact_full',
  'exact_gqa',
  'exact_key_padding',
  'exact_large_logits',
  'exact_mqa',
  'exact_padding_causal_cross',
  'exact_scale',
  'exact_softcap',
  'exact_window',
  'exact_window_causal',
  'exact_window_cross',
];

describe.each(['f64', 'f32', 'bf16', 'f16'] as const)('exact attention in %s', (dtype) => {
  test.each(exact)('%s', (id) => {
    const golden = loadGolden(id, 'attention');
    const params = golden.manifest.params as unknown as Params;
    const lengths = (list: number[] | null) =>
      list ? { list: tensor(Int32Array.from(list)) } : {};
    const keyLengths = lengths(params.key_lengths).list;
    const queryLengths = lengths(params.query_lengths).list;
    const [q, k, v] = ['q', 'k', 'v'].map((n) => leaf(golden, n, dtype).requireGrad()) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const [o, lse] = attention(q, k, v, {
      causal: params.causal,
      window: params.window,
      scale: params.scale,
      ...(params.softcap ? { softcap: params.softcap } : {}),
      ...(keyLengths ? { keyLengths } : {}),
      ...(queryLengths ? { queryLengths } : {}),
      returnLse: true,
    });
    const grads = gradients([o, lse], [q, k, v], {
      gradients: [
        leaf(golden, 'd_out', dtype),
        leaf(golden, 'd_lse', dtype === 'f64' ? 'f64' : 'f32'),
      ],
      retainGraph: true,
    });
    compare(golden, 'out', o, dtype);
    compare(golden, 'lse', lse, dtype, lseOf(golden, params.query_lengths));
    ['q', 'k', 'v'].forEach((n, i) => {
      compare(golden, `grad.${n}`, grads[i] as Tensor, dtype);
    });
  });
});

describe.each(['f64', 'f32'] as const)('scaled dot-product attention in %s', (dtype) => {
  test.each(['sdpa_full_lq5lk7', 'sdpa_causal_lq5lk7', 'sdpa_padmask_lq5lk7'])('%s', (id) => {
    const golden = loadGolden(id);
    const [q, k, v] = ['q', 'k', 'v'].map((n) => leaf(golden, `in.${n}`, dtype).requireGrad()) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const y = attention(q, k, v, maskOf(golden, id));
    const grads = gradients([y], [q, k, v], {
      gradients: [leaf(golden, 'up.y', dtype)],
      retainGraph: true,
    });
    compare(golden, 'out.y', y, dtype);
    ['q', 'k', 'v'].forEach((n, i) => {
      compare(golden, `grad.${n}`, grads[i] as Tensor, dtype);
    });
  });
});

/** The options that say what the mask of a case says. */
function maskOf(golden: Golden, id: string) {
  if (id.includes('full')) return {};
  const { data, shape } = golden.tensor('in.mask');
  const [rows, keys] = [shape.at(-2) as number, shape.at(-1) as number];
  if (id.includes('causal')) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < keys; j++) expect(data[i * keys + j]).toBe(j <= i ? 1 : 0);
    }
    return { causal: true };
  }
  const counts = new Int32Array(data.length / keys);
  data.forEach((seen, i) => {
    const row = Math.floor(i / keys);
    if (seen && i % keys !== counts[row]) throw new Error(`${id} is not a mask of prefixes`);
    counts[row] = (counts[row] as number) + (seen ? 1 : 0);
  });
  return { keyLengths: tensor(counts) };
}
