import {
  logSoftmax,
  ones,
  permute,
  softmax,
  type Tensor,
  tensor,
  transpose,
  zeros,
} from 'longspan';
import { logSoftmaxReference, softmaxReference } from '../reference/cross-entropy.js';
import { checkAgainstTwin, epsilon, expectClose, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda, expectSameOnCuda, gradientsOf } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const list = (t: Tensor) => Array.from(values(t));
const infinity = Number.POSITIVE_INFINITY;

describe.each([
  { shape: [1, 239], axis: -1, split: [1, 239, 1] },
  { shape: [799, 3], axis: 1, split: [799, 3, 1] },
  { shape: [113, 5], axis: 0, split: [1, 113, 5] },
  { shape: [2, 7, 3], axis: -2, split: [2, 7, 3] },
  { shape: [5000], axis: 0, split: [1, 5000, 1] },
] as const)('$shape along axis $axis', ({ shape, axis, split }) => {
  const inputs = [
    {
      values: new Random(1).normal(
        shape.reduce((n: number, d) => n * d, 1),
        0,
        3,
      ),
      shape,
    },
  ];
  test('softmax equals its twin', () => {
    checkAgainstTwin(
      (x) => softmax(x, axis),
      (x) => softmaxReference(x, split),
      inputs,
    );
  });
  test('logSoftmax equals its twin', () => {
    checkAgainstTwin(
      (x) => logSoftmax(x, axis),
      (x) => logSoftmaxReference(x, split),
      inputs,
    );
  });
});

test('gradients against finite differences', async () => {
  const x = tensorOf(new Random(2).normal(30), [2, 5, 3], 'f64');
  for (const axis of [0, 1, 2]) {
    await checkGradients((t) => softmax(t, axis), [x]);
    await checkGradients((t) => logSoftmax(t, axis), [x]);
  }
  await checkGradients((t) => softmax(permute(t, [2, 0, 1])), [x]);
});

test('views are read by stride', () => {
  const view = transpose(tensorOf(new Random(3).normal(60), [12, 5], 'f32'));
  expect(list(softmax(view))).toEqual(list(softmax(view.contiguous())));
  expect(list(logSoftmax(view, 0))).toEqual(list(logSoftmax(view.contiguous(), 0)));
});

test('large logits neither overflow nor vanish', () => {
  expect(list(softmax(tensor([1e30, 1e30])))).toEqual([0.5, 0.5]);
  expect(list(softmax(tensor([-1e30, 0])))).toEqual([0, 1]);
  expect(list(logSoftmax(tensor([-200, 0])))).toEqual([-200, 0]);
});

test('masked rows: zeros, -inf and no gradient', () => {
  const row = [-infinity, -infinity];
  const x = tensor([row, [0, -infinity]]).requireGrad();
  const y = softmax(x);
  expect(list(y)).toEqual([0, 0, 1, 0]);
  y.backward({
    gradient: tensor([
      [1, 2],
      [3, 4],
    ]),
  });
  expect(list(x.grad as Tensor)).toEqual([0, 0, 0, 0]);
  const z = tensor([row]).requireGrad();
  const logarithm = logSoftmax(z);
  expect(list(logarithm)).toEqual(row);
  logarithm.backward({ gradient: ones([1, 2]) });
  expect(list(z.grad as Tensor)).toEqual([0, 0]);
});

test('NaN stays visible', () => {
  expect(list(softmax(tensor([Number.NaN, Number.NaN])))).toEqual([Number.NaN, Number.NaN]);
  expect(list(softmax(tensor([-infinity, Number.NaN])))).toEqual([Number.NaN, Number.NaN]);
  expect(list(logSoftmax(tensor([1, Number.NaN])))).toEqual([Number.NaN, Number.NaN]);
});

test('empty axes and wrong arguments', () => {
  expect(softmax(zeros([0, 3])).shape).toEqual([0, 3]);
  expect(softmax(zeros([3, 0])).shape).toEqual([3, 0]);
  expect(() => softmax(zeros([2]), 1)).toThrow(/softmax: 'axis' is 1/);
  expect(() => logSoftmax(tensor(1))).toThrow(/at least 1 axis/);
  expect(() => softmax(zeros([2], { dtype: 'i32' }))).toThrow(/'x' is i32\[2\]/);
});

describeCuda('on cuda', () => {
  const make = (shape: number[]) => ({
    values: new Random(7).normal(
      shape.reduce((n, d) => n * d, 1),
      0,
      3,
    ),
    shape,
  });
  // Teams of 4 threads to a block, aligned and not, rows longer than the registers; columns.
  test.each([
    [[5, 3], -1],
    [[9, 64], -1],
    [[3, 239], 1],
    [[2, 1536], 1],
    [[1, 8209], 1],
    [[1, 16400], 1],
    [[40, 3], 0],
    [[37, 40], 0],
    [[2, 5, 17], 1],
  ] as [number[], number][])('%j along %i, and gradients', (shape, axis) => {
    for (const operator of [softmax, logSoftmax]) {
      compareDevices((x) => operator(x, axis), [make(shape)], { f32Tolerance: 1e-6 });
      const backward = gradientsOf((x) => operator(x, axis), 1);
      compareDevices(backward, [make(shape), make(shape)], { dtypes: ['f32'], f32Tolerance: 4e-6 });
      // In 16 bits gradients start from the rounded result: the CPU in the same type is the measure.
      for (const dtype of ['f16', 'bf16'] as const) {
        const on = (where: string) => {
          const inputs = [make(shape), make(shape)].map((x) => tensorOf(x.values, shape, dtype));
          return values(backward(...inputs.map((x) => x.to(where)))[0] as Tensor);
        };
        const expected = on('cpu');
        const most = expected.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
        expectClose(on('cuda'), expected, { absolute: epsilon[dtype] * most });
      }
    }
  });

  test('views are read by stride', () => {
    compareDevices((x) => softmax(transpose(x)), [make([24, 7])]);
    compareDevices((x) => softmax(permute(x, [1, 2, 0]), 0), [make([16, 3, 9])]);
    compareDevices(
      gradientsOf((x) => logSoftmax(transpose(x)), 1),
      [make([24, 7]), make([7, 24])],
      { dtypes: ['f32'], f32Tolerance: 4e-6 },
    );
  });

  test('masked rows, NaN and empty axes', () => {
    const x = tensor([
      [0, -infinity, 1],
      [-infinity, -infinity, -infinity],
      [1, Number.NaN, 2],
      [-infinity, Number.NaN, -infinity],
    ]);
    for (const operator of [softmax, logSoftmax]) {
      compareDevices((t) => operator(t), [{ values: values(x), shape: [4, 3] }], {
        dtypes: ['f32'],
        f32Tolerance: 1e-6,
      });
      expectSameOnCuda((_, t) => operator(t as Tensor), [zeros([0, 3])]);
    }
  });
});
