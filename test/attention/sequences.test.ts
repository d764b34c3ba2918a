import { attention, gradients, ones, reshape, slice, type Tensor, tensor, zeros } from 'longspan';
import type { AttentionCase } from '../reference/attention.js';
import { expectClose, tensorOf, values } from '../support/compare.js';
import { describeCuda, testDevices } from '../support/devices.js';
import { Random } from '../support/random.js';
import { dataOf, normal, onDevice, roundData, runs, square } from './case.js';

describe.each(testDevices())('on %s', (on) => {
  const { check, runCase, size, widest, wideTypes } = onDevice(on);

  describe('prefix language models', () => {
    test.each([0, 1, 40, 70, 130])('a prefix of %d keys', (prefix) => {
      check(square(130, { causal: true, prefixLengths: [prefix] }));
    });

    test('with windows, padding and other lengths', () => {
      check({
        ...square(90, { m: 150, window: [30, 4], prefixLengths: [100, 80, 0] }),
        ...{ b: 3, keyLengths: [150, 60, 99], queryLengths: [90, 45, 80] },
      });
      check(square(300, { causal: true, window: [64, 0], prefixLengths: [250] }), widest);
    });
  });

  describe('segments', () => {
    test('documents packed in a row', () => {
      check(
        square(300, {
          causal: true,
          querySegments: runs(100, 28, 1, 171),
          keySegments: runs(100, 28, 1, 171),
        }),
      );
    });

    test('unsorted ids, cross attention, segments without keys', () => {
      const random = new Random(4);
      const ids = (n: number, kinds: number) =>
        Array.from(random.normal(n), (x) => Math.floor(Math.abs(x * 10)) % kinds);
      check({
        ...square(140, { m: 210, querySegments: ids(280, 5), keySegments: ids(420, 4) }),
        ...{ b: 2, hq: 4 },
      });
    });

    test('negative ids and one id for all', () => {
      const same = new Array<number>(100).fill(-7);
      check(square(100, { querySegments: same, keySegments: same }), widest);
    });

    test('equal one call per document', () => {
      const [q, k, v] = ['q', 'k', 'v'].map((_, i) =>
        tensorOf(normal(i, 2 * 192 * 16), [1, 2, 192, 16], 'f32').to(on),
      ) as [Tensor, Tensor, Tensor];
      const ids = tensor(Int32Array.from(runs(64, 128)), { shape: [1, 192], device: on });
      const whole = attention(q, k, v, { causal: true, segmentIds: ids });
      const part = (t: Tensor) => slice(t, 2, 64, 192);
      const alone = attention(part(q), part(k), part(v), { causal: true });
      // With ids a GPU scales scores before it subtracts the maximum, and not at once with it.
      const near = on === 'cpu' ? {} : { absolute: 1e-6 };
      expectClose(values(part(whole)), values(alone), near, 'the second document');
    });
  });

  describe('packed sequences', () => {
    const lengths: (readonly [number, number])[] = [
      [0, 0],
      [17, 17],
      [size(97, 30), size(97, 30)],
      [1, 1],
      [33, 40],
      [5, 3],
      [0, 4],
      [6, 0],
      [size(200, 70), size(130, 66)],
    ];
    const ends = (which: 0 | 1) => {
      let end = 0;
      return [0, ...lengths.map((pair) => (end += pair[which]))];
    };
    const [n, m] = [ends(0).at(-1) as number, ends(1).at(-1) as number];

    /** Rows [from, to) of every head. */
    const rows = (
      x: Float64Array,
      heads: number,
      tokens: number,
      d: number,
      at: [number, number],
    ) =>
      Float64Array.from(
        Array.from({ length: heads }, (_, h) => [
          ...x.subarray((h * tokens + at[0]) * d, (h * tokens + at[1]) * d),
        ]).flat(),
      );

    test.each([
      ['full', {}],
      ['causal', { causal: true }],
      ['windows', { window: [20, 3] as const }],
      [
        'ALiBi and sinks',
        { causal: true, alibiSlopes: [0.5, 0.1, 0.02, 0.3], sinks: [1, -1, 0, 2] },
      ],
      ['softcap', { softcap: 2 }],
    ] as [string, Partial<AttentionCase>][])('%s: each sequence by itself', (_, given) => {
      const whole: AttentionCase = { ...square(n, { m, d: 12, dv: 20 }), hq: 4, hkv: 2, ...given };
      const data = dataOf(whole);
      const [qEnds, kEnds] = [ends(0), ends(1)];
      for (const dtype of wideTypes) {
        const got = runCase(whole, roundData(data, dtype), dtype, {
          options: { cuSeqlens: { queries: qEnds, keys: kEnds } },
        });
        const sinks = new Float64Array(4);
        lengths.forEach(([queries, keys], s) => {
          const q: [number, number] = [qEnds[s] as number, qEnds[s + 1] as number];
          const k: [number, number] = [kEnds[s] as number, kEnds[s + 1] as number];
          const one = { ...whole, n: queries, m: keys };
          const mine = roundData(
            {
              q: rows(data.q, 4, n, 12, q),
              k: rows(data.k, 2, m, 12, k),
              v: rows(data.v, 2, m, 20, k),
              gradO: rows(data.gradO, 4, n, 20, q),
              gradLse: rows(data.gradLse, 4, n, 1, q),
            },
            dtype,
          );
          const expected = runCase(one, mine, dtype);
          const near = { absolute: 1e-5 };
          expectClose(rows(got.o, 4, n, 20, q), expected.o, near, `o of ${s}`);
          expectClose(rows(got.lse, 4, n, 1, q), expected.lse, near, `lse of ${s}`);
          expectClose(rows(got.q, 4, n, 12, q), expected.q, near, `gradient of q of ${s}`);
          expectClose(rows(got.k, 2, m, 12, k), expected.k, near, `gradient of k of ${s}`);
          expectClose(rows(got.v, 2, m, 20, k), expected.v, near, `gradient of v of ${s}`);
          expected.sinks.forEach((x, h) => {
            sinks[h] = (sinks[h] as number) + x;
          });
        });
        if (given.sinks) expectClose(got.sinks, sinks, { absolute: 2e-5 }, 'gradient of sinks');
      }
    });

    test('three axes, boundaries as numbers or on the device', () => {
      const x = tensorOf(normal(5, 60 * 3 * 8), [60, 3, 8], 'f32')
        .to(on)
        .requireGrad();
      const boundaries = [0, 25, 25, 60];
      const [a, lse] = attention(x, x, x, { cuSeqlens: boundaries, causal: true, returnLse: true });
      expect([a.shape, lse.shape]).toEqual([
        [60, 3, 8],
        [3, 60],
      ]);
      const b = attention(x, x, x, {
        cuSeqlens: tensor(Int32Array.from(boundaries), { device: on }),
        causal: true,
      });
      expect(values(a)).toEqual(values(b));
      const [grad] = gradients([a], [x], { gradients: [ones([60, 3, 8], { device: on })] });
      expect(grad?.shape).toEqual([60, 3, 8]);
      const part = reshape(slice(x, 0, 25, 60), [1, 35, 3, 8]);
      const alone = attention(part, part, part, { causal: true, layout: 'bnhd' });
      expect(values(slice(a, 0, 25, 60))).toEqual(values(alone));
    });
  });
});

describe('on the CPU alone', () => {
  test('boundaries that do not fit', async () => {
    const x = zeros([6, 1, 8]);
    for (const cuSeqlens of [[], [1, 6], [0, 4, 3, 6], [0, 5], [0, 2.5, 6]]) {
      expect(() => attention(x, x, x, { cuSeqlens })).toThrow(/'cuSeqlens'.*tokens, 6/s);
    }
    const bad = attention(x, x, x, { cuSeqlens: tensor(new Int32Array([0, 4, 3, 6])) });
    await expect(bad.data()).rejects.toThrow(
      /cuSeqlensQ.*ascend from 0 to the number of tokens, 6/,
    );
    const wide = zeros([2, 1, 6, 8]);
    expect(() => attention(wide, wide, wide, { cuSeqlens: [0, 6] })).toThrow(/'q'.*batch of one/s);
    const one = zeros([1, 1, 6, 8]);
    expect(() =>
      attention(one, one, one, { cuSeqlens: [0, 6], keyLengths: zeros([1], { dtype: 'i32' }) }),
    ).toThrow(/'keyLengths'.*packed/s);
    expect(() => attention(one, one, one, { cuSeqlens: [0, 6], bias: zeros([6, 6]) })).toThrow(
      /'bias'.*packed/s,
    );
  });
});

describeCuda('on a GPU', () => {
  test('boundaries are clamped; rows that no sequence owns see nothing', () => {
    const make = (seed: number) =>
      tensorOf(normal(seed, 20 * 2 * 8), [20, 2, 8], 'f32')
        .to('cuda')
        .requireGrad();
    const [q, k, v] = [make(1), make(2), make(3)];
    const packed = (ends: number[]) => {
      const cuSeqlens = tensor(Int32Array.from(ends), { device: 'cuda' });
      const [o, lse] = attention(q, k, v, { cuSeqlens, causal: true, returnLse: true });
      const grads = gradients([o], [q, k, v], {
        gradients: [ones([20, 2, 8], { device: 'cuda' })],
      }) as Tensor[];
      return [o, lse, ...grads].map(values) as Float64Array[];
    };
    const clamped = packed([4, 9, 7, 99, 15]);
    const plain = packed([4, 9, 9, 20]);
    expect(clamped).toEqual(plain);
    const [o, lse, ...grads] = packed([4, 9, 15]) as [
      Float64Array,
      Float64Array,
      ...Float64Array[],
    ];
    for (const x of [o, ...grads]) {
      expect([...x.subarray(0, 4 * 16), ...x.subarray(15 * 16)]).toEqual(new Array(9 * 16).fill(0));
      expect(x.subarray(4 * 16, 15 * 16).some((y) => y !== 0)).toBe(true);
    }
    expect([...lse].map((x) => x === Number.NEGATIVE_INFINITY)).toEqual(
      [0, 1].flatMap(() => Array.from({ length: 20 }, (_, i) => i < 4 || i >= 15)),
    );
  });
});

describe('what these options refuse', () => {
  const x = zeros([2, 4, 6, 8]);
  const ids = (...shape: number[]) => zeros(shape, { dtype: 'i32' });
  const cases: [string, () => unknown, RegExp][] = [
    ['segments of one side', () => attention(x, x, x, { segmentIds: {} as never }), /'segmentIds'/],
    [
      'segments of another shape',
      () => attention(x, x, x, { segmentIds: ids(2, 5) }),
      /'querySegments'.*\[2, 6\]/s,
    ],
    [
      'segments of another dtype',
      () => attention(x, x, x, { segmentIds: zeros([2, 6]) }),
      /'querySegments'.*i32/s,
    ],
    ['prefixes of another batch', () => attention(x, x, x, { prefixLengths: ids(3) }), /'prefix/],
  ];
  test.each(cases)('%s', (_, call, message) => {
    expect(call).toThrow(message);
  });
});
