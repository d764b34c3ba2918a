import { attention, slice, tensor, transpose, zeros } from 'longspan';
import {
  type AttentionCase,
  attentionGradients,
  attentionReference,
} from '../reference/attention.js';
import { expectClose, expectLowPrecision, rounded, tensorOf, values } from '../support/compare.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';
import { check, dataOf, optionsOf, roundData, runCase, square } from './case.js';

describe('attention against its twin', () => {
  const lengths = [
    [113, 203],
    [128, 217],
    [1, 239],
    [799, 3],
    [97, 33],
    [17, 1],
    [64, 64],
    [130, 300],
  ] as const;
  for (const [n, m] of lengths) {
    for (const causal of [false, true]) {
      test(`${n} queries, ${m} keys${causal ? ', causal' : ''}`, () => {
        check(square(n, { m, causal }));
      });
    }
  }

  test.each([1, 3, 8, 40, 64, 80, 128, 256])('head dimension %d', (d) => {
    check(square(70, { d, dv: d, causal: true }));
    check(square(9, { d, dv: d, m: 150 }));
  });

  test.each([
    [24, 40],
    [256, 1],
    [5, 70],
  ])('keys of %d and values of %d', (d, dv) => {
    check(square(67, { d, dv, m: 99 }));
  });

  test.each(['f64', 'f32'] as const)('every option together in %s', (dtype) => {
    check(
      {
        ...square(150, { m: 170, d: 20, dv: 12 }),
        b: 3,
        hq: 6,
        hkv: 2,
        causal: true,
        window: [40, 7],
        softcap: 3,
        scale: 0.4,
        keyLengths: [170, 90, 0],
        queryLengths: [150, 100, 33],
      },
      dtype,
    );
  });

  test('windows, alone and beyond both ends', () => {
    check(square(200, { window: [30, 5] }));
    check(square(200, { window: [0, 0], m: 260 }));
    check(square(300, { window: [-1, 3] }));
    check(square(300, { window: [100000, 100000] }));
    check(square(90, { window: [2, 1], m: 40 }));
  });

  test('one key head for all query heads', () => {
    check({ ...square(140), hq: 5, hkv: 1, causal: true });
  });

  test('many ranges of keys, as the backward pass splits them', () => {
    check({ ...square(600, { m: 1300, d: 8, dv: 8 }), hq: 1, hkv: 1 });
    check({ ...square(900, { d: 8, dv: 8, window: [200, 0] }), hq: 1, hkv: 1 });
  });

  test('logits of several hundred', () => {
    check(square(100, { scale: 40 }), 'f64');
    const c = square(100, { scale: 40 });
    const data = roundData(dataOf(c), 'f32');
    const got = runCase(c, data, 'f32');
    expectClose(got.o, attentionReference(c, data.q, data.k, data.v).o, { absolute: 2e-4 });
  });
});

describe('attention in low precision', () => {
  test.each(['bf16', 'f16'] as const)('%s is as exact as the naive formula', (dtype) => {
    const c = { ...square(90, { m: 140, d: 32, dv: 24, causal: true }), hq: 4 };
    const exact = dataOf(c);
    const narrow = roundData(exact, dtype);
    const round = (x: number) => rounded([x], dtype)[0] as number;
    const got = runCase(c, narrow, dtype);
    const truth = attentionReference(c, exact.q, exact.k, exact.v);
    const naive = attentionReference(c, narrow.q, narrow.k, narrow.v, round);
    expectLowPrecision(got.o, truth.o, rounded(naive.o, dtype), { dtype, what: 'o' });
    const gradTruth = attentionGradients(c, exact.q, exact.k, exact.v, exact.gradO, exact.gradLse);
    const gradNaive = attentionGradients(
      c,
      narrow.q,
      narrow.k,
      narrow.v,
      narrow.gradO,
      narrow.gradLse,
      round,
    );
    for (const name of ['q', 'k', 'v'] as const) {
      expectLowPrecision(got[name], gradTruth[name], rounded(gradNaive[name], dtype), {
        dtype,
        factor: 3,
        what: `gradient of ${name}`,
      });
    }
  });
});

describe('attention by stride', () => {
  const c: AttentionCase = { ...square(75, { m: 90, d: 24, dv: 40, causal: true }), b: 2, hq: 4 };

  test('[B, N, H, D] through a permuted view', () => {
    check(c, 'f32', {
      store: (t) => t.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3).detach(),
    });
  });

  test.each(['f64', 'f32'] as const)('[B, N, H, D] by layout in %s', (dtype) => {
    check(c, dtype, { view: (t) => t.permute(0, 2, 1, 3), layout: 'bnhd' });
  });

  test('a head dimension that is not the innermost', () => {
    for (const dtype of ['f32', 'f64'] as const) {
      check(c, dtype, { store: (t) => transpose(transpose(t).contiguous()).detach() });
    }
  });

  test('one head repeated by stride 0', () => {
    const k = tensorOf(new Random(3).normal(90 * 24), [1, 1, 90, 24], 'f32');
    const q = tensorOf(new Random(4).normal(2 * 10 * 24), [1, 2, 10, 24], 'f32');
    const wide = k.viewAs([1, 2, 90, 24], [0, 0, 24, 1], 0);
    expect(values(attention(q, wide, wide))).toEqual(values(attention(q, k, k)));
  });
});

describe('attention gradients by finite differences', () => {
  test('causal, grouped heads, softcap, log-sum-exp', async () => {
    const c: AttentionCase = {
      ...square(9, { m: 13, d: 5, dv: 3 }),
      hq: 4,
      softcap: 2,
      causal: true,
    };
    const data = dataOf(c);
    await checkGradients(
      (q, k, v) => attention(q, k, v, { ...optionsOf(c), returnLse: true }),
      [
        tensorOf(data.q, [1, 4, 9, 5], 'f64'),
        tensorOf(data.k, [1, 2, 13, 5], 'f64'),
        tensorOf(data.v, [1, 2, 13, 3], 'f64'),
      ],
    );
  });
});

describe('what a query must not depend on', () => {
  const c = square(200, { d: 32, dv: 32 });

  test.each(['f32', 'bf16'] as const)('later tokens, bit for bit, in %s', (dtype) => {
    const data = dataOf(c);
    const run = (t: number | null) => {
      const changed = (x: Float64Array, seed: number) => {
        const y = x.slice();
        if (t === null) return y;
        const noise = new Random(seed).normal(32, 0, 30);
        for (let h = 0; h < 2; h++)
          for (let i = 0; i < 32; i++) y[(h * 200 + t) * 32 + i] = noise[i] as number;
        return y;
      };
      const [q, k, v] = [data.q, data.k, data.v].map((x, i) =>
        tensorOf(changed(x, i), [1, 2, 200, 32], dtype),
      ) as [ReturnType<typeof tensorOf>, ReturnType<typeof tensorOf>, ReturnType<typeof tensorOf>];
      return attention(q, k, v, { causal: true });
    };
    const base = run(null);
    for (const t of [1, 63, 64, 130, 199]) {
      const other = run(t);
      expect(values(slice(other, 2, 0, t))).toEqual(values(slice(base, 2, 0, t)));
      expect(values(slice(other, 2, t, 200))).not.toEqual(values(slice(base, 2, t, 200)));
    }
  });

  test('NaN in padded keys and queries', () => {
    const padded: AttentionCase = { ...square(130), keyLengths: [77], queryLengths: [101] };
    const data = dataOf(padded);
    const poison = (x: Float64Array, from: number) => {
      for (let h = 0; h < 2; h++) x.fill(Number.NaN, (h * 130 + from) * 16, (h + 1) * 130 * 16);
    };
    const clean = runCase(padded, data, 'f32');
    poison(data.q, 101);
    poison(data.gradO, 101);
    poison(data.k, 77);
    poison(data.v, 77);
    expect(runCase(padded, data, 'f32')).toEqual(clean);
    const wide = runCase(padded, data, 'f64');
    for (const x of Object.values(wide)) expect(x.some(Number.isNaN)).toBe(false);
  });

  test('NaN in what it sees does reach it', () => {
    const data = dataOf(c);
    data.k[150 * 32] = Number.NaN;
    const { o } = runCase(square(200, { d: 32, dv: 32, causal: true }), data, 'f32');
    expect(Number.isNaN(o[149 * 32])).toBe(false);
    expect(Number.isNaN(o[150 * 32])).toBe(true);
  });
});

describe('attention at the edges', () => {
  test('no keys: zeros, log-sum-exp -Infinity, zero gradients', () => {
    for (const dtype of ['f32', 'f64'] as const) {
      const c = square(5, { m: 0 });
      const got = runCase(c, dataOf(c), dtype);
      expect(got.o).toEqual(new Float64Array(2 * 5 * 16));
      expect(got.lse).toEqual(new Float64Array(10).fill(Number.NEGATIVE_INFINITY));
      expect(got.q).toEqual(new Float64Array(2 * 5 * 16));
    }
  });

  test('no queries, no batch', () => {
    const c = square(0, { m: 4 });
    const got = runCase(c, dataOf(c), 'f32');
    expect(got.o.length).toBe(0);
    expect(got.k).toEqual(new Float64Array(2 * 4 * 16));
    const none = zeros([0, 2, 3, 4]).requireGrad();
    const [y, lse] = attention(none, none, none, { causal: true, returnLse: true });
    expect([y.shape, y.dataSync().length]).toEqual([[0, 2, 3, 4], 0]);
    expect([lse.shape, lse.dataSync().length]).toEqual([[0, 2, 3], 0]);
    y.backward({ gradient: zeros([0, 2, 3, 4]) });
    expect(none.grad?.dataSync().length).toBe(0);
  });

  test('lengths outside the sequence poison the result', async () => {
    const x = zeros([2, 1, 4, 8]);
    const y = attention(x, x, x, { keyLengths: tensor(new Int32Array([4, 5])) });
    await expect(y.data()).rejects.toThrow(
      /attention failed: keyLengths: length 5 of batch entry 1/,
    );
  });
});

describe('what attention refuses', () => {
  const x = zeros([2, 4, 6, 8]);
  const cases: [string, () => unknown, RegExp][] = [
    ['integers', () => attention(zeros([2, 4, 6, 8], { dtype: 'i32' }), x, x), /'q'.*i32.*f32/s],
    ['mixed dtypes', () => attention(x, x.to('bf16'), x), /'k'.*bf16.*dtype of 'q'/s],
    ['three axes', () => attention(zeros([4, 6, 8]), x, x), /'q'.*4 axes/s],
    ['another batch size', () => attention(x, zeros([1, 4, 6, 8]), x), /'k'.*batch size/s],
    ['another head dimension', () => attention(x, zeros([2, 4, 6, 7]), x), /'k'.*head dimension/s],
    ['values of another length', () => attention(x, x, zeros([2, 4, 5, 8])), /'v'.*length/s],
    ['values of other heads', () => attention(x, x, zeros([2, 2, 6, 8])), /'v'.*heads/s],
    [
      'heads that do not divide',
      () => attention(x, zeros([2, 3, 6, 8]), zeros([2, 3, 6, 8])),
      /4 heads.*multiple/s,
    ],
    [
      '257 dimensions',
      () => attention(zeros([1, 1, 2, 257]), zeros([1, 1, 2, 257]), x),
      /'q'.*1 to 256/s,
    ],
    ['no dimensions', () => attention(zeros([1, 1, 2, 0]), x, x), /'q'.*1 to 256/s],
    [
      'an infinite scale',
      () => attention(x, x, x, { scale: Number.POSITIVE_INFINITY }),
      /'scale'.*finite/s,
    ],
    ['a NaN scale', () => attention(x, x, x, { scale: Number.NaN }), /'scale'.*finite/s],
    ['a negative softcap', () => attention(x, x, x, { softcap: -1 }), /'softcap'.*positive/s],
    ['a broken window', () => attention(x, x, x, { window: [-2, 0] }), /'windowLeft'.*-1/s],
    [
      'lengths of another dtype',
      () => attention(x, x, x, { keyLengths: zeros([2]) }),
      /'keyLengths'.*i32/s,
    ],
    [
      'lengths of another batch',
      () => attention(x, x, x, { queryLengths: zeros([3], { dtype: 'i32' }) }),
      /'queryLengths'.*\[2\]/s,
    ],
    // @ts-expect-error a misspelt option
    ['a misspelt option', () => attention(x, x, x, { casual: true }), /casual.*'causal'/s],
    // @ts-expect-error an unknown layout
    ['an unknown layout', () => attention(x, x, x, { layout: 'nhd' }), /'layout'/],
    // @ts-expect-error no tensor
    ['something else', () => attention(x, x, 3), /'v'.*Tensor/s],
  ];
  test.each(cases)('%s', (_, call, message) => {
    expect(call).toThrow(message);
  });

  test('a disposed tensor', () => {
    const gone = zeros([2, 4, 6, 8]);
    gone.dispose();
    expect(() => attention(x, gone, x)).toThrow(/'k'.*disposed/s);
  });
});
