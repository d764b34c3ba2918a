import {
  add,
  argmax,
  argmin,
  cumsum,
  full,
  max,
  mean,
  min,
  mul,
  permute,
  slice,
  sum,
  type Tensor,
  tensor,
  variance,
} from 'longspan';
import { alongAxis, cumsum as cumsumLine } from '../reference/lines.js';
import * as reference from '../reference/reduce.js';
import { checkAgainstTwin, expectClose, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda, expectSameOnCuda, gradientsOf } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const cases: [number[], number[]][] = [
  [[7], [0]],
  [[3, 5], [1]],
  [[3, 5], [0]],
  [
    [2, 3, 4, 5],
    [1, 3],
  ],
  [
    [2, 3, 4, 5],
    [0, 2],
  ],
  [[1300, 11], [0]],
  [[2, 600, 9], [1]],
  [[70000], [0]],
  [[3, 40000], [1]],
  [[2, 3], []],
  [[], []],
];
const sizeOf = (shape: readonly number[]) => shape.reduce((n, d) => n * d, 1);

type Reduction = (x: Tensor, axes: number[]) => Tensor;
const operators: Record<string, [Reduction, (x: number[]) => number]> = {
  sum: [sum, reference.sum],
  mean: [mean, reference.mean],
  variance: [(x, axes) => variance(x, axes, { correction: 0 }), (x) => reference.variance(x, 0)],
  max: [max, (x) => x[reference.argmax(x)] as number],
  min: [min, (x) => x[reference.argmax(x, -1)] as number],
};

describe.each(Object.keys(operators))('%s', (name) => {
  const [operator, f] = operators[name] as (typeof operators)[string];

  test.each(cases)('of %j over %j', (shape, axes) => {
    checkAgainstTwin(
      (x) => operator(x, axes),
      (x) => reference.groups(x, shape, axes).map(f),
      [{ values: new Random(3).normal(sizeOf(shape), 0.5), shape }],
      { f32Tolerance: 5e-7 },
    );
  });

  test('takes strided tensors, negative axes and keepDims', () => {
    const x = new Random(4).normal(2 * 3 * 50);
    const t = permute(tensorOf(x, [2, 3, 50], 'f64'), [2, 0, 1]);
    expectClose(operator(t, [-3]), reference.groups(x, [2, 3, 50], [2]).map(f), {
      absolute: 1e-12,
    });
    expectClose(
      operator(t, [1]),
      values(
        permute(tensorOf(reference.groups(x, [2, 3, 50], [0]).map(f), [3, 50], 'f64'), [1, 0]),
      ),
      { absolute: 1e-12 },
    );
    expectClose(
      operator(slice(t, 0, 10, 13), [0, 2]),
      reference.groups(values(slice(t, 0, 10, 13)), [3, 2, 3], [0, 2]).map(f),
      { absolute: 1e-12 },
    );
    const kept = { sum, mean, variance, max, min }[name] as typeof sum;
    expect(kept(t, 0, { keepDims: true }).shape).toEqual([1, 2, 3]);
    expect(kept(t).shape).toEqual([]);
  });

  test('has the gradients of finite differences', async () => {
    const x = tensorOf(new Random(5).normal(24), [2, 3, 4], 'f64');
    for (const axes of [[0], [1], [2], [0, 2], [0, 1, 2], []]) {
      await checkGradients((t) => operator(t, axes), [x]);
    }
    await checkGradients((t) => operator(permute(t, [2, 0, 1]), [1]), [x]);
  });

  test('refuses axes that do not exist or repeat', () => {
    const x = tensor([[1, 2]]);
    expect(() => operator(x, [2])).toThrow('Use an axis from -2 to 1');
    expect(() => operator(x, [0, -2])).toThrow('Name each axis at most once');
    expect(() => operator(x, { keepDims: true } as unknown as number[])).toThrow('a list of axes');
  });
});

test('full sums stay accurate at any length', async () => {
  const n = 3_000_001;
  const x = Float32Array.from({ length: n }, (_, i) => 0.1 + (i % 7) * 1e-3);
  const exact = x.reduce((total, v) => total + v, 0);
  // Two units in the last place, whatever the length: leaves are added in f32, the rest in f64.
  expectClose(sum(tensor(x)), [exact], { relative: 2.4e-7 });
  expectClose(mean(tensor(x)), [exact / n], { relative: 2.4e-7 });
  const ones = full([1 << 20, 8], 1, { dtype: 'bf16' });
  expect([...values(sum(ones, 0))]).toEqual(new Array(8).fill(2 ** 20));
  expect(await sum(ones).item()).toBe(2 ** 23);
});

test('integers are counted exactly, empty axes sum to 0', () => {
  const mask = tensor(new Uint8Array(100_000).fill(1));
  expect(sum(mask).dtype).toBe('i32');
  expect(sum(mask).itemSync()).toBe(100_000);
  expect([...sum(tensor(new Int32Array([1, 2, 3, 4]), { shape: [2, 2] }), 0).dataSync()]).toEqual([
    4, 6,
  ]);
  const empty = tensor(new Float32Array(0), { shape: [0, 3] });
  expect([...values(sum(empty, 0))]).toEqual([0, 0, 0]);
  expect([...values(mean(empty, 0))]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
  expect(sum(empty, 1).shape).toEqual([0]);
  expect(() => mean(mask)).toThrow("'x' is u8[100000]");
  expect(() => max(empty, 0)).toThrow('An empty axis has no extreme element');
  expect(max(empty, 1).shape).toEqual([0]);
});

test('second-order gradients of sum, mean and variance', async () => {
  const x = tensorOf(new Random(6).normal(12), [3, 4], 'f64');
  const square = (t: Tensor) => mul(t, t);
  await checkGradients((t) => sum(square(mean(square(t), 0))), [x]);
  await checkGradients((t) => variance(mul(t, sum(square(t), 1, { keepDims: true }))), [x], {
    tolerance: 1e-6,
  });
});

describe('argmax and argmin', () => {
  test.each(cases.filter(([, axes]) => axes.length === 1))('of %j along %j', (shape, [axis]) => {
    const x = new Random(7).integers(sizeOf(shape), -40, 40);
    for (const dtype of ['f32', 'f64', 'bf16', 'f16', 'i32'] as const) {
      const t = tensorOf(x, shape, dtype);
      expect(argmax(t, axis).dtype).toBe('i32');
      expect([...argmax(t, axis).dataSync()]).toEqual(
        reference.groups(x, shape, [axis as number]).map((line) => reference.argmax(line)),
      );
      expect([...argmin(t, axis).dataSync()]).toEqual(
        reference.groups(x, shape, [axis as number]).map((line) => reference.argmax(line, -1)),
      );
    }
  });

  test('the first NaN wins, and infinities are ordinary', () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    const x = new Float32Array(5000).fill(3);
    x[1500] = inf;
    x[2500] = x[4999] = nan;
    expect(argmax(tensor(x)).itemSync()).toBe(2500);
    expect(argmin(tensor(x)).itemSync()).toBe(2500);
    expect(max(tensor(x)).itemSync()).toBeNaN();
    expect(argmax(tensor([-inf, -inf])).itemSync()).toBe(0);
    const rows = tensor(
      Float32Array.from({ length: 40 }, (_, i) => (i === 17 || i === 27 ? nan : i)),
      { shape: [4, 10] },
    );
    expect([...argmax(rows, 0).dataSync()]).toEqual([3, 3, 3, 3, 3, 3, 3, 1, 3, 3]);
    expect(argmax(rows, 0, { keepDims: true }).shape).toEqual([1, 10]);
  });

  test('the gradient of max goes to the first of equal elements', () => {
    const x = tensor([
      [1, 3, 3],
      [2, 2, 0],
    ]).requireGrad();
    sum(max(x, 1)).backward();
    expect([...values(x.grad as Tensor)]).toEqual([0, 1, 0, 1, 0, 0]);
  });
});

describe('cumsum', () => {
  test.each([
    [[9], 0],
    [[3, 2100], 1],
    [[2100, 3], 0],
    [[2, 5, 300], 1],
  ] as [number[], number][])('of %j along %i', (shape, axis) => {
    const twin = (x: Float64Array) => alongAxis(x, shape, axis, cumsumLine).data;
    checkAgainstTwin(
      (x) => cumsum(x, axis),
      twin,
      [{ values: new Random(8).normal(sizeOf(shape)), shape }],
      { f32Tolerance: 3e-7 },
    );
    const backwards = (x: Float64Array) =>
      alongAxis(x, shape, axis, (line) => cumsumLine(line.reverse()).reverse()).data;
    checkAgainstTwin(
      (x) => cumsum(x, axis, { reverse: true }),
      backwards,
      [{ values: new Random(9).normal(sizeOf(shape)), shape }],
      { f32Tolerance: 3e-7 },
    );
  });

  test('strided, empty, integer, differentiable', async () => {
    const x = tensorOf(new Random(10).normal(24), [2, 3, 4], 'f64');
    for (const axis of [0, 1, -1]) {
      await checkGradients((t) => cumsum(permute(t, [1, 2, 0]), axis), [x]);
      await checkGradients((t) => cumsum(t, axis, { reverse: true }), [x]);
    }
    expect([...cumsum(tensor(new Int32Array([1, 2, 3])), 0).dataSync()]).toEqual([1, 3, 6]);
    expect(cumsum(tensor(new Float32Array(0), { shape: [2, 0] }), 1).shape).toEqual([2, 0]);
    expect(() => cumsum(x, 0, { reversed: true } as object)).toThrow("Did you mean 'reverse'");
    expect(() => cumsum(add(1, tensor([1])), 3)).toThrow('Use an axis');
  });
});

describeCuda('on cuda', () => {
  const make = (shape: number[]) => ({ values: new Random(12).normal(sizeOf(shape)), shape });
  // Rows and columns, whole and in pieces, aligned and not; several axes; outputs of no element.
  const shapes: [number[], number[]][] = [
    [[7], [0]],
    [[3, 64], [1]],
    [[3, 37], [0]],
    [[600, 72], [0]],
    [
      [2, 3, 4, 5],
      [1, 3],
    ],
    [
      [5, 4, 3, 16],
      [0, 2],
    ],
    [
      [2, 20000],
      [0, 1],
    ],
    [[4, 0, 3], [1]],
  ];
  test.each(shapes)('sums and means of %j over %j', (shape, axes) => {
    for (const operator of [sum, mean]) {
      compareDevices((x) => operator(x, axes), [make(shape)]);
      compareDevices(
        (x) => operator(permute(x, shape.map((_, i) => i).reverse()), axes[0]),
        [make(shape)],
      );
    }
  });

  test('integers are counted exactly', () => {
    const x = new Random(13).integers(3000, -1e6, 1e6);
    for (const axes of [[0], [1], [0, 1]]) {
      expectSameOnCuda((_, t) => sum(t as Tensor, axes), [tensorOf(x, [50, 60], 'i32')]);
      expectSameOnCuda(
        (_, t) => sum(t as Tensor, axes),
        [tensorOf(new Random(14).integers(3000, 0, 256), [60, 50], 'u8')],
      );
    }
  });

  test.each(shapes.filter(([shape]) => sizeOf(shape) > 0))('extremes of %j', (shape, axes) => {
    // Few values, so that the first of equal ones must be found.
    const x = new Random(15).integers(sizeOf(shape), -9, 9);
    x[1] = Number.NaN;
    x[4] = Number.NaN;
    for (const dtype of ['f32', 'f16', 'bf16', 'i32', 'u8'] as const) {
      const isInteger = dtype === 'i32' || dtype === 'u8';
      const t = tensorOf(isInteger ? x.map((v) => Math.abs(v) || 0) : x, shape, dtype);
      for (const operator of [max, min]) {
        expectSameOnCuda((_, a) => operator(a as Tensor, axes), [t]);
        expectSameOnCuda(
          (_, a) =>
            operator(
              permute(
                a as Tensor,
                shape.map((_, i) => -1 - i),
              ),
            ),
          [t],
        );
      }
      for (const operator of [argmax, argmin]) {
        expectSameOnCuda((_, a) => operator(a as Tensor, axes[0]), [t]);
        expectSameOnCuda((_, a) => operator(a as Tensor), [t]);
      }
    }
    const kept = shape.filter((_, i) => !axes.includes(i));
    compareDevices(
      gradientsOf((a) => max(a, axes), 1),
      [make(shape), make(kept)],
    );
  });

  test.each([
    [[9], 0],
    [[3, 2100], 1],
    [[2, 64], 1],
    [[17000], 0],
    [[2100, 3], 0],
    [[2, 5, 300], 1],
  ] as [number[], number][])('cumsum of %j along %i', (shape, axis) => {
    for (const reverse of [false, true]) {
      compareDevices((x) => cumsum(x, axis, { reverse }), [make(shape)], { f32Tolerance: 3e-7 });
      expectSameOnCuda(
        (_, x) => cumsum(x as Tensor, axis, { reverse }),
        [tensorOf(new Random(16).integers(sizeOf(shape), -1000, 1000), shape, 'i32')],
      );
    }
    const backwards = shape.map((_, i) => i).reverse();
    compareDevices((x) => cumsum(permute(x, backwards), 0), [make(shape)]);
  });
});
