import {
  device,
  layerNorm,
  normal,
  ones,
  rmsNorm,
  type Tensor,
  tensor,
  transpose,
  zeros,
} from 'longspan';
import { layerNormReference, rmsNormReference } from '../reference/norm.js';
import {
  checkAgainstTwin,
  expectClose,
  expectLowPrecision,
  type Input,
  rounded,
  tensorOf,
  values,
} from '../support/compare.js';
import { compareDevices, describeCuda, expectSameOnCuda, gradientsOf } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const list = (t: Tensor) => Array.from(values(t));
const shapes = [[1, 239], [799, 3], [2, 5, 64], [113], [3, 1]];
const size = (shape: readonly number[]) => shape.reduce((n, d) => n * d, 1);

describe.each(shapes.map((shape) => ({ shape })))('twins, $shape', ({ shape }) => {
  const n = shape.at(-1) as number;
  const random = new Random(n);
  const inputs = [
    { values: random.normal(size(shape), 0.5, 2), shape },
    { values: random.normal(n), shape: [n] },
    { values: random.normal(n), shape: [n] },
  ];

  test('layerNorm', () => {
    checkAgainstTwin(
      (x, w, b) => layerNorm(x, w, b),
      (x, weight, bias) => layerNormReference(x, n, { weight, bias }),
      inputs,
    );
    checkAgainstTwin(
      (x) => layerNorm(x),
      (x) => layerNormReference(x, n),
      inputs.slice(0, 1),
    );
  });

  test('rmsNorm', () => {
    checkAgainstTwin(
      (x, w) => rmsNorm(x, w),
      (x, weight) => rmsNormReference(x, n, { weight }),
      inputs.slice(0, 2),
    );
    checkAgainstTwin(
      (x) => rmsNorm(x),
      (x) => rmsNormReference(x, n),
      inputs.slice(0, 1),
    );
  });
});

test('a large mean does not spoil the variance', () => {
  const x = Float32Array.from(new Random(3).normal(512), (v) => 1e4 + v);
  const expected = layerNormReference(x, 512);
  expectClose(layerNorm(tensor(x, { shape: [1, 512] })), expected, { absolute: 2e-3 });
});

describe('residual', () => {
  const random = new Random(4);
  const x = random.normal(60);
  const r = random.normal(60);
  const w = random.normal(12);

  test.each(['f32', 'f64', 'bf16', 'f16'] as const)('[y, s] of the rounded sum in %s', (dtype) => {
    const [tx, tr, tw] = [
      tensorOf(x, [5, 12], dtype),
      tensorOf(r, [5, 12], dtype),
      tensorOf(w, [12], dtype),
    ];
    const narrow = rounded(r, dtype);
    const sum = tensorOf(
      rounded(x, dtype).map((v, i) => v + (narrow[i] as number)),
      [5, 12],
      dtype,
    );
    const [y, s] = layerNorm(tx, tw, null, { residual: tr });
    expect(list(s)).toEqual(list(sum));
    expect(list(y)).toEqual(list(layerNorm(sum, tw)));
    const [yr, sr] = rmsNorm(tx, tw, { residual: tr });
    expect(list(sr)).toEqual(list(sum));
    expect(list(yr)).toEqual(list(rmsNorm(sum, tw)));
  });

  test('only the summands that need gradients get them', () => {
    const a = tensorOf(x, [5, 12], 'f32');
    const b = tensorOf(r, [5, 12], 'f32').requireGrad();
    const [y, s] = layerNorm(a, null, null, { residual: b });
    y.backward({ gradient: ones([5, 12]), retainGraph: true });
    expect(a.grad).toBeNull();
    const first = list(b.grad as Tensor);
    s.backward({ gradient: ones([5, 12]) });
    list(b.grad as Tensor).forEach((g, i) => {
      expect(g).toBeCloseTo((first[i] as number) + 1, 5);
    });
  });
});

describe('gradients against finite differences', () => {
  const random = new Random(5);
  const x = () => tensorOf(random.normal(35), [5, 7], 'f64');
  const w = () => tensorOf(random.normal(7), [7], 'f64');

  test('layerNorm', async () => {
    await checkGradients((a, b, c) => layerNorm(a, b, c), [x(), w(), w()]);
    await checkGradients(
      (a, b, c) => layerNorm(a, b, c, { unbiased: true, eps: 0.1 }),
      [x(), w(), w()],
    );
    await checkGradients(
      (a) => layerNorm(transpose(a)),
      [tensorOf(random.normal(35), [7, 5], 'f64')],
    );
    await checkGradients((a, r, b, c) => layerNorm(a, b, c, { residual: r }), [x(), x(), w(), w()]);
  });

  test('rmsNorm', async () => {
    await checkGradients((a, b) => rmsNorm(a, b), [x(), w()]);
    await checkGradients(
      (a) => rmsNorm(transpose(a)),
      [tensorOf(random.normal(35), [7, 5], 'f64')],
    );
    await checkGradients((a, r, b) => rmsNorm(a, b, { residual: r }), [x(), x(), w()]);
  });
});

test('low-precision gradients stay near those of exact arithmetic', () => {
  const [rows, n] = [700, 48];
  const random = new Random(6);
  const [x, g, w] = [random.normal(rows * n), random.normal(rows * n), random.normal(n)];
  const run = (dtype: 'f64' | 'f32' | 'bf16' | 'f16', round: 'f64' | 'f32' | 'bf16' | 'f16') => {
    const [tx, tw, tb] = [
      tensorOf(rounded(x, round), [rows, n], dtype).requireGrad(),
      tensorOf(rounded(w, round), [n], dtype).requireGrad(),
      zeros([n], { dtype }).requireGrad(),
    ];
    layerNorm(tx, tw, tb).backward({ gradient: tensorOf(rounded(g, round), [rows, n], dtype) });
    return [tx, tw, tb].map((t) => values(t.grad as Tensor));
  };
  const exact = run('f64', 'f64');
  run('f32', 'f64').forEach((gradient, i) => {
    expectClose(gradient, exact[i] as Float64Array, { absolute: 2e-5 }, `gradient ${i} in f32`);
  });
  for (const dtype of ['bf16', 'f16'] as const) {
    const naive = run('f64', dtype);
    run(dtype, dtype).forEach((gradient, i) => {
      expectLowPrecision(
        gradient,
        exact[i] as Float64Array,
        rounded(naive[i] as Float64Array, dtype),
        { dtype, factor: 3, what: `gradient ${i}` },
      );
    });
  }
});

test('parameters may be f32 beside 16-bit activations', () => {
  const x = tensorOf(new Random(7).normal(24), [3, 8], 'bf16').requireGrad();
  const w = ones([8]).requireGrad();
  const y = rmsNorm(x, w);
  expect(y.dtype).toBe('bf16');
  y.backward({ gradient: ones([3, 8], { dtype: 'bf16' }) });
  expect((w.grad as Tensor).dtype).toBe('f32');
});

test('views are read by stride', () => {
  const view = transpose(tensorOf(new Random(8).normal(60), [12, 5], 'f32'));
  expect(list(layerNorm(view))).toEqual(list(layerNorm(view.contiguous())));
  expect(list(rmsNorm(view))).toEqual(list(rmsNorm(view.contiguous())));
});

test('zero rows and zero features', () => {
  const w = ones([4]).requireGrad();
  const y = layerNorm(zeros([0, 4]), w);
  expect(y.shape).toEqual([0, 4]);
  y.backward({ gradient: zeros([0, 4]) });
  expect(list(w.grad as Tensor)).toEqual([0, 0, 0, 0]);
  expect(rmsNorm(zeros([3, 0])).shape).toEqual([3, 0]);
});

test('wrong arguments are named', () => {
  const x = normal([2, 4]);
  expect(() => layerNorm(x, ones([3]))).toThrow(/layerNorm: 'weight' is f32\[3\].*\[4\]/);
  expect(() => layerNorm(x, null, ones([4]))).toThrow(/'weight' is absent/);
  expect(() => layerNorm(x, ones([4]), ones([4], { dtype: 'bf16' }))).toThrow(
    /'bias' is bf16\[4\]/,
  );
  expect(() => layerNorm(x, null, null, { residual: normal([2, 5]) })).toThrow(/'residual'/);
  expect(() => layerNorm(ones([2, 2], { dtype: 'i32' }))).toThrow(/'x' is i32/);
  expect(() => layerNorm(normal([]))).toThrow(/at least 1 axis/);
  expect(() => rmsNorm(x, null, { eps: Number.NaN })).toThrow(/'eps' is NaN/);
  expect(() => rmsNorm(x, null, { eps: -1 })).toThrow(/'eps' is -1/);
  expect(() => rmsNorm(x, null, { epsilon: 1 } as never)).toThrow(/'epsilon'/);
  x.dispose();
  expect(() => rmsNorm(x)).toThrow(/disposed/);
});

describeCuda('on cuda', () => {
  const random = new Random(8);
  const make = (shape: number[]) => ({ values: random.normal(size(shape), 0.3, 2), shape });
  // Several rows to a block, aligned and not, several blocks of rows, rows longer than registers.
  test.each([[[1, 239]], [[70, 3]], [[2, 5, 64]], [[300, 24]], [[19, 1032]], [[2, 8200]]])(
    '%j and gradients',
    (shape) => {
      const n = shape.at(-1) as number;
      const [x, u] = [make(shape), make(shape)];
      const [w, b] = [make([n]), make([n])];
      for (const unbiased of [false, true]) {
        const norm = (t: Tensor, weight: Tensor, bias: Tensor) =>
          layerNorm(t, weight, bias, { unbiased, eps: 0.01 });
        compareDevices(norm, [x, w, b]);
        compareDevices(gradientsOf(norm, 3), [x, w, b, u], { factor: 3, f32Tolerance: 4e-6 });
      }
      compareDevices((t, weight) => rmsNorm(t, weight), [x, w]);
      compareDevices(
        gradientsOf((t, weight) => rmsNorm(t, weight), 2),
        [x, w, u],
        { factor: 3, f32Tolerance: 4e-6 },
      );
    },
  );

  test('without parameters, with a residual, strided, empty', () => {
    const [x, r, u, v] = [make([6, 40]), make([6, 40]), make([6, 40]), make([6, 40])];
    compareDevices((t) => layerNorm(t), [x]);
    compareDevices((t) => rmsNorm(transpose(t)), [x]);
    compareDevices(
      gradientsOf((t) => layerNorm(transpose(t)), 1),
      [x, make([40, 6])],
      {
        factor: 3,
        f32Tolerance: 4e-6,
      },
    );
    const added = (t: Tensor, residual: Tensor) => layerNorm(t, null, null, { residual });
    const addedRms = (t: Tensor, residual: Tensor) => rmsNorm(t, null, { residual });
    for (const norm of [added, addedRms]) {
      compareDevices(norm, [x, r]);
      compareDevices(gradientsOf(norm, 2, 2), [x, r, u, v], { factor: 3, f32Tolerance: 4e-6 });
    }
    const wide = [make([2, 8200]), make([2, 8200])];
    compareDevices(added, wide);
    expectSameOnCuda((_, t) => layerNorm(t as Tensor), [zeros([0, 5])]);
    expectSameOnCuda((_, t) => layerNorm(t as Tensor), [zeros([5, 0])]);
  });

  test('aligned rows of the most elements that registers hold, and longer ones', () => {
    for (const n of [16384, 16400]) {
      const long = new Random(n);
      const [x, w, b] = [n, n, n].map((k) => ({ values: long.normal(k, 0.3, 2), shape: [k] }));
      compareDevices((t, weight, bias) => layerNorm(t, weight, bias), [x, w, b] as Input[]);
      compareDevices((t, weight) => rmsNorm(t, weight), [x, w] as Input[]);
    }
  });

  test('parameters of another dtype', () => {
    const w = tensorOf(random.normal(40), [40], 'f32');
    const half = tensorOf(random.normal(40), [40], 'f16');
    const x = tensorOf(random.normal(240), [6, 40], 'bf16');
    const on = device('cuda');
    for (const weight of [w, half]) {
      const expected = values(rmsNorm(x, weight));
      const actual = values(rmsNorm(x.to(on), weight.to(on)));
      expectClose(actual, expected, { relative: 2 ** -7 });
    }
  });
});
