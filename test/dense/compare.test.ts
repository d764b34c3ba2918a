import {
  type DType,
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  logicalNot,
  logicalOr,
  notEqual,
  type Operand,
  type Tensor,
  tensor,
  transpose,
  where,
} from 'longspan';
import { elementwise } from '../reference/broadcast.js';
import { checkAgainstTwin, tensorOf, values } from '../support/compare.js';
import { describeCuda, expectSameOnCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const relations: Record<
  string,
  [(a: Operand, b: Operand) => Tensor, (a: number, b: number) => boolean]
> = {
  equal: [equal, (a, b) => a === b],
  notEqual: [notEqual, (a, b) => a !== b],
  less: [less, (a, b) => a < b],
  lessEqual: [lessEqual, (a, b) => a <= b],
  greater: [greater, (a, b) => a > b],
  greaterEqual: [greaterEqual, (a, b) => a >= b],
  logicalAnd: [logicalAnd, (a, b) => a !== 0 && b !== 0],
  logicalOr: [logicalOr, (a, b) => a !== 0 || b !== 0],
};

test.each(Object.keys(relations))('%s', (name) => {
  const [operator, f] = relations[name] as (typeof relations)[string];
  const random = new Random(2);
  const [a, b] = [random.integers(5 * 300, -1, 2), random.integers(300, -1, 2)];
  const expected = [
    ...elementwise(
      (x, y) => Number(f(x, y)),
      { data: a, shape: [5, 300] },
      { data: b, shape: [300] },
    ),
  ];
  for (const dtype of ['f32', 'f64', 'f16', 'bf16', 'i32'] as const) {
    const y = operator(tensorOf(a, [5, 300], dtype), tensorOf(b, [300], dtype));
    expect(y.dtype).toBe('u8');
    expect([...values(y)]).toEqual(expected);
  }
  const flipped = operator(transpose(tensorOf(a, [5, 300], 'f32')), 0);
  expect([...values(transpose(flipped))]).toEqual([...a].map((x) => Number(f(x, 0))));
  expect([...values(operator(1, tensorOf(b, [300], 'i32')))]).toEqual(
    [...b].map((x) => Number(f(1, x))),
  );
});

test('NaN equals nothing, and large integers are told apart', () => {
  const nan = tensor([Number.NaN]);
  expect(equal(nan, nan).itemSync()).toBe(0);
  expect(notEqual(nan, nan).itemSync()).toBe(1);
  expect(less(nan, 1).itemSync()).toBe(0);
  const big = tensor(new Int32Array([2 ** 30, 2 ** 30 + 1]));
  expect([...values(equal(big, 2 ** 30))]).toEqual([1, 0]);
  expect([...values(logicalNot(tensor(new Uint8Array([0, 1, 7]))))]).toEqual([1, 0, 0]);
});

describe('where', () => {
  const mask = new Random(4).integers(6, 0, 2);
  test.each([
    [
      [2, 3],
      [2, 3],
    ],
    [[3], [2, 1]],
    [[], [2, 3]],
  ])('broadcasts %j and %j', (shapeA, shapeB) => {
    const random = new Random(5);
    const condition = tensorOf(mask, [2, 3], 'u8');
    const size = (shape: number[]) => shape.reduce((n, d) => n * d, 1);
    checkAgainstTwin(
      (a, b) => where(condition, a, b),
      (a, b) =>
        elementwise(
          (c, x, y) => (c ? x : y),
          { data: mask, shape: [2, 3] },
          { data: a, shape: shapeA },
          { data: b, shape: shapeB },
        ),
      [
        { values: random.normal(size(shapeA)), shape: shapeA },
        { values: random.normal(size(shapeB)), shape: shapeB },
      ],
    );
  });

  test('takes numbers, masks of few axes and integers', () => {
    const x = tensor(new Int32Array([1, 2, 3, 4]), { shape: [2, 2] });
    expect([...where(tensor(new Uint8Array([1, 0])), x, -1).dataSync()]).toEqual([1, -1, 3, -1]);
    expect([...where(tensor(new Uint8Array([1, 0])), 9, transpose(x)).dataSync()]).toEqual([
      9, 3, 9, 4,
    ]);
    expect(where(tensor(new Uint8Array([1, 1, 0]), { shape: [3, 1, 1] }), x, 0).shape).toEqual([
      3, 2, 2,
    ]);
  });

  test('has the gradients of finite differences', async () => {
    const random = new Random(6);
    const condition = tensorOf(mask, [2, 3], 'u8');
    const [a, b] = [
      tensorOf(random.normal(3), [3], 'f64'),
      tensorOf(random.normal(2), [2, 1], 'f64'),
    ];
    await checkGradients((x, y) => where(condition, x, y), [a, b]);
    await checkGradients((x) => where(condition, x, 0), [a]);
  });

  test('refuses masks that are not u8', () => {
    expect(() => where(tensor([1]), tensor([1]), 0)).toThrow("'condition' is f32[1]. Use u8");
    expect(() => where(tensor(new Uint8Array(2)), tensor([1, 2, 3]), 0)).toThrow('must broadcast');
  });
});

describeCuda('on cuda', () => {
  const random = new Random(12);
  const make = (dtype: DType, shape: number[]) =>
    tensorOf(
      Float64Array.from(
        random.integers(
          shape.reduce((n, d) => n * d, 1),
          0,
          3,
        ),
      ),
      shape,
      dtype,
    );

  test.each(['f32', 'f16', 'bf16', 'i32', 'u8'] as const)('relations of %s', (dtype) => {
    for (const [relation] of Object.values(relations)) {
      const run = (a: Operand, b: Operand) => relation(a, b);
      expectSameOnCuda(
        (_, a, b) => run(a as Tensor, b as Tensor),
        [make(dtype, [5, 1, 40]), make(dtype, [3, 40])],
      );
      expectSameOnCuda((_, a) => run(transpose(a as Tensor), 1.5), [make(dtype, [7, 9])]);
      expectSameOnCuda((_, a) => run(1, a as Tensor), [make(dtype, [33])]);
    }
  });

  test.each(['f32', 'f16', 'bf16', 'i32', 'u8'] as const)('where of %s', (dtype) => {
    const [mask, a, b] = [make('u8', [5, 40]), make(dtype, [3, 5, 40]), make(dtype, [40])];
    expectSameOnCuda((_, m, x, y) => where(m as Tensor, x as Tensor, y as Tensor), [mask, a, b]);
    expectSameOnCuda(
      (_, m, x) => where(m as Tensor, transpose(x as Tensor), 2),
      [make('u8', [1, 7]), make(dtype, [7, 9])],
    );
  });
});
