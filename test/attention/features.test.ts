import {
  alibiSlopes,
  attention,
  Generator,
  gradients,
  ones,
  reshape,
  type Tensor,
  zeros,
} from 'longspan';
import { type AttentionCase, attentionReference } from '../reference/attention.js';
import { expectClose, expectLowPrecision, rounded, tensorOf, values } from '../support/compare.js';
import { describeCuda, testDevices } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { dataOf, keptOf, normal, onDevice, optionsOf, roundData, runs, square } from './case.js';

type BiasShape = readonly [number, number, number, number];

const biasOf = (shape: BiasShape, seed = 21) => ({
  data: normal(
    seed,
    shape.reduce((a, n) => a * n, 1),
  ),
  shape,
});

describe.each(testDevices())('on %s', (on) => {
  const { check, runCase, size, widest, wideTypes } = onDevice(on);

  describe('additive bias', () => {
    const shapes: BiasShape[] = [
      [2, 4, 70, 150],
      [1, 4, 70, 150],
      [2, 1, 70, 150],
      [1, 1, 70, 150],
      [1, 4, 1, 150],
      [2, 1, 1, 150],
      [1, 4, 70, 1],
      [1, 1, 1, 1],
      [2, 4, 1, 1],
    ];
    test.each(shapes)('[%d, %d, %d, %d] and its gradient', (...shape) => {
      const c = { ...square(70, { m: 150, bias: biasOf(shape) }), b: 2, hq: 4, hkv: 2 };
      check(c);
      for (const dtype of wideTypes) {
        check(
          { ...c, causal: true, softcap: 3, keyLengths: [150, 81], queryLengths: [70, 33] },
          dtype,
        );
      }
    });

    test('a bias of fewer axes', () => {
      const [q, k] = [1, 2].map((s) =>
        tensorOf(normal(s, 2 * 9 * 4), [1, 2, 9, 4], 'f32').to(on),
      ) as [Tensor, Tensor];
      const bias = tensorOf(normal(3, 81), [9, 9], 'f32').to(on).requireGrad();
      const y = attention(q, k, k, { bias });
      const wide = attention(q, k, k, { bias: reshape(bias, [1, 1, 9, 9]) });
      expect(values(y)).toEqual(values(wide));
      const [grad] = gradients([y], [bias], { gradients: [ones([1, 2, 9, 4], { device: on })] });
      expect(grad?.shape).toEqual([9, 9]);
    });

    test('-Infinity hides a pair; a row of nothing else is empty', () => {
      const data = normal(1, 8 * 8);
      for (let j = 0; j < 8; j++) data[3 * 8 + j] = Number.NEGATIVE_INFINITY;
      data[5 * 8 + 2] = Number.NEGATIVE_INFINITY;
      const c = square(8, { bias: { data, shape: [1, 1, 8, 8] } });
      for (const dtype of wideTypes) {
        const got = runCase(c, roundData(dataOf(c), dtype), dtype);
        expect(got.lse[3]).toBe(Number.NEGATIVE_INFINITY);
        expect([...got.o.subarray(3 * 16, 4 * 16)]).toEqual(new Array(16).fill(0));
        expect(got.q.some(Number.isNaN)).toBe(false);
        expect(got.bias[5 * 8 + 2]).toBe(0);
      }
    });

    test('in 16 bits, and in f32 beside 16-bit operands', () => {
      const plain = square(40, { m: 60 });
      const biasData = rounded(normal(21, 2 * 40 * 60), 'bf16');
      const c: AttentionCase = { ...plain, bias: { data: biasData, shape: [1, 2, 40, 60] } };
      const data = roundData(dataOf(c), 'bf16');
      const round = (x: number) => rounded([x], 'bf16')[0] as number;
      const truth = attentionReference(c, data.q, data.k, data.v);
      const naive = attentionReference(c, data.q, data.k, data.v, round);
      for (const dtype of ['bf16', 'f32'] as const) {
        const bias = tensorOf(biasData, [1, 2, 40, 60], dtype).requireGrad();
        const got = runCase(plain, data, 'bf16', { options: { bias } });
        expectLowPrecision(got.o, truth.o, rounded(naive.o, 'bf16'), { dtype: 'bf16', what: 'o' });
        expect(got.bias.length).toBe(2 * 40 * 60);
      }
    });

    test('twice the same bits, shared by heads', () => {
      const c = {
        ...square(size(200, 70), { bias: biasOf([1, 1, size(200, 70), size(200, 70)]) }),
        hq: 6,
        hkv: 3,
      };
      const data = roundData(dataOf(c), 'f32');
      expect(runCase(c, data, 'f32')).toEqual(runCase(c, data, 'f32'));
    });
  });

  describe('ALiBi', () => {
    test.each(wideTypes)('both directions, padding, grouped heads, %s', (dtype) => {
      const c = {
        ...square(size(150, 70), { m: size(170, 90), alibiSlopes: [0.5, 0.25, 0.125, 0.0625] }),
        hq: 4,
      };
      check(c, dtype);
      check(
        {
          ...c,
          causal: true,
          b: 2,
          keyLengths: [size(170, 90), 59],
          queryLengths: [size(150, 70), 40],
        },
        dtype,
      );
    });

    test('slopes per batch entry', () => {
      const c = { ...square(20), b: 2 };
      const data = dataOf(c);
      const slopes = tensorOf(Float64Array.from([0.5, 0.25, 0.1, 0.01]), [2, 2], 'f32');
      const got = runCase(c, data, 'f32', { options: { alibiSlopes: slopes } });
      const second = runCase({ ...c, alibiSlopes: [0.1, 0.01] }, data, 'f32');
      expect(got.o.subarray(got.o.length / 2)).toEqual(second.o.subarray(got.o.length / 2));
    });
  });

  describe('attention sinks', () => {
    test.each(wideTypes)('and their gradient, %s', (dtype) => {
      const c = { ...square(size(150, 70), { sinks: [0.5, -2, 3, 0] }), hq: 4 };
      check(c, dtype);
      check({ ...c, causal: true, b: 2, keyLengths: [c.n, 0], queryLengths: [50, c.n] }, dtype);
      check({ ...c, n: 7, m: 200, window: [9, 1] }, dtype);
    });

    test('a row without keys has the sink as its log-sum-exp', () => {
      const c = square(3, { m: 0, sinks: [1.5, -1] });
      const got = runCase(c, dataOf(c), 'f32');
      expectClose(got.lse, [1.5, 1.5, 1.5, -1, -1, -1], { absolute: 1e-6 }, 'lse');
      expect(got.o.every((x) => x === 0)).toBe(true);
    });

    test('-Infinity is no sink', () => {
      const c = square(30);
      const data = dataOf(c);
      const none = Number.NEGATIVE_INFINITY;
      const plain = runCase(c, data, 'f32');
      expect(runCase({ ...c, sinks: [none, none] }, data, 'f32').o).toEqual(plain.o);
    });
  });

  describe('dropout', () => {
    test.each([
      ['f32', {}],
      [widest, {}],
      ['f32', { causal: true, softcap: 2 }],
      ['f32', { window: [9, 9], hq: 4, sinks: [0, 1, 0, 1] }],
    ] as ['f32' | 'f64', Partial<AttentionCase>][])('%s %o against the twin', (dtype, given) => {
      const c = { ...square(50, { m: 71 }), ...given };
      const kept = keptOf(c, 77, 0.3);
      check({ ...c, kept }, dtype, { options: { dropout: 0.3, generator: new Generator(77, on) } });
    });

    test('advances the generator, the same seed repeats', () => {
      const x = tensorOf(normal(1, 2 * 9 * 8), [1, 2, 9, 8], 'f32').to(on);
      const generator = new Generator(3, on);
      const run = () => values(attention(x, x, x, { dropout: 0.5, generator }));
      const [first, second] = [run(), run()];
      expect(second).not.toEqual(first);
      generator.seed(3);
      expect(run()).toEqual(first);
    });
  });

  describe('everything together', () => {
    test.each(wideTypes)('in %s', (dtype) => {
      const c: AttentionCase = {
        ...square(150, { m: 170, d: 20, dv: 12 }),
        ...{ b: 2, hq: 4, hkv: 2, causal: true, window: [60, 7], softcap: 3, scale: 0.4 },
        keyLengths: [170, 90],
        queryLengths: [150, 100],
        prefixLengths: [30, 10],
        querySegments: [...runs(80, 70), ...runs(60, 90)],
        keySegments: [...runs(90, 80), ...runs(50, 120)],
        bias: biasOf([1, 4, 150, 170]),
        alibiSlopes: [0.1, 0.2, 0.3, 0.01],
        sinks: [0.3, -1, 2, 0],
      };
      check(c, dtype);
    });
  });
});

describe('on the CPU alone', () => {
  test('the gradient by finite differences', async () => {
    const c = square(7, { m: 11, d: 4, dv: 3, softcap: 2, causal: true });
    const data = dataOf(c);
    await checkGradients(
      (q, k, v, bias, sinks) =>
        attention(q, k, v, { ...optionsOf(c, 'f64'), bias, sinks, returnLse: true }),
      [
        tensorOf(data.q, [1, 2, 7, 4], 'f64'),
        tensorOf(data.k, [1, 2, 11, 4], 'f64'),
        tensorOf(data.v, [1, 2, 11, 3], 'f64'),
        tensorOf(normal(9, 2 * 11), [2, 1, 11], 'f64'),
        tensorOf(normal(10, 2), [2], 'f64'),
      ],
    );
  });

  test('slopes of the paper', () => {
    expect(values(alibiSlopes(8))).toEqual(
      Float64Array.from({ length: 8 }, (_, i) => 2 ** -(i + 1)),
    );
    const twelve = values(alibiSlopes(12, { dtype: 'f64' }));
    expect([...twelve.subarray(8)]).toEqual([2 ** -0.5, 2 ** -1.5, 2 ** -2.5, 2 ** -3.5]);
    expect(() => alibiSlopes(0)).toThrow(/'heads'/);
  });

  test('refuses what is no probability', () => {
    const x = zeros([1, 1, 4, 8]);
    for (const dropout of [-0.1, 1, Number.NaN]) {
      expect(() => attention(x, x, x, { dropout })).toThrow(/'dropout'.*from 0 to below 1/s);
    }
  });
});

describeCuda('on a GPU', () => {
  test.each(['f32', 'bf16', 'f16'] as const)('drops the same weights as the CPU in %s', (dtype) => {
    // Values that are rows of the unit matrix show the weights themselves.
    const [q, k] = [1, 2].map((seed) => tensorOf(normal(seed, 2 * 48 * 16), [1, 2, 48, 16], dtype));
    const unit = Array.from({ length: 2 * 48 * 48 }, (_, i) => +(i % 48 === ((i / 48) | 0) % 48));
    const v = tensorOf(unit, [1, 2, 48, 48], dtype);
    const [cpu, cuda] = ['cpu', 'cuda'].map((on) => {
      const [a, b, c] = [q as Tensor, k as Tensor, v].map((t) => t.to(on)) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      return values(attention(a, b, c, { dropout: 0.4, generator: new Generator(9, on) }));
    }) as [Float64Array, Float64Array];
    expect([...cuda].map((x) => x === 0)).toEqual([...cpu].map((x) => x === 0));
    expectClose(cuda, cpu, { absolute: dtype === 'f32' ? 1e-6 : 4e-3 }, 'weights');
  });
});

describe('what these options refuse', () => {
  const x = zeros([2, 4, 6, 8]);
  const ids = (...shape: number[]) => zeros(shape, { dtype: 'i32' });
  const cases: [string, () => unknown, RegExp][] = [
    [
      'a bias that does not broadcast',
      () => attention(x, x, x, { bias: zeros([5]) }),
      /'bias'.*6/s,
    ],
    ['a bias of integers', () => attention(x, x, x, { bias: ids(6, 6) }), /'bias'.*f32/s],
    ['slopes of other heads', () => attention(x, x, x, { alibiSlopes: zeros([3]) }), /'alibi/],
    ['sinks of other heads', () => attention(x, x, x, { sinks: zeros([2]) }), /'sinks'.*\[4\]/s],
    [
      'sinks in bf16',
      () => attention(x, x, x, { sinks: zeros([4], { dtype: 'bf16' }) }),
      /'sinks'/,
    ],
  ];
  test.each(cases)('%s', (_, call, message) => {
    expect(call).toThrow(message);
  });
});
