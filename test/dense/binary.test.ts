import {
  ArgumentError,
  add,
  div,
  gradients,
  maximum,
  minimum,
  mul,
  type Operand,
  pow,
  sub,
  sum,
  type Tensor,
  tensor,
  transpose,
} from 'longspan';
import { broadcastShape, elementwise } from '../reference/broadcast.js';
import { checkAgainstTwin, expectClose, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda, expectSameOnCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const operators: Record<
  string,
  [(a: Operand, b: Operand) => Tensor, (a: number, b: number) => number]
> = {
  add: [add, (a, b) => a + b],
  sub: [sub, (a, b) => a - b],
  mul: [mul, (a, b) => a * b],
  div: [div, (a, b) => a / b],
  pow: [pow, (a, b) => a ** b],
  maximum: [maximum, Math.max],
  minimum: [minimum, Math.min],
};

const shapes: [number[], number[]][] = [
  [[5], [5]],
  [[3, 1037], [1037]],
  [[4, 1], [3]],
  [
    [2, 1, 5],
    [3, 1],
  ],
  [[], [2, 3]],
  [[1], []],
  [
    [0, 3],
    [1, 3],
  ],
];

function positive(random: Random, shape: readonly number[]): Float64Array {
  return random.uniform(
    shape.reduce((n, d) => n * d, 1),
    0.3,
    2.5,
  );
}

describe.each(Object.keys(operators))('%s', (name) => {
  const [operator, f] = operators[name] as (typeof operators)[string];

  test.each(shapes)('broadcasts %j with %j', (shapeA, shapeB) => {
    const random = new Random(5);
    checkAgainstTwin(
      operator,
      (a, b) => elementwise(f, { data: a, shape: shapeA }, { data: b, shape: shapeB }),
      [
        { values: positive(random, shapeA), shape: shapeA },
        { values: positive(random, shapeB), shape: shapeB },
      ],
      { f32Tolerance: 3e-7 },
    );
    const y = operator(
      tensorOf(positive(random, shapeA), shapeA, 'f32'),
      tensorOf(positive(random, shapeB), shapeB, 'f32'),
    );
    expect(y.shape).toEqual(broadcastShape([shapeA, shapeB]));
  });

  test('takes numbers on either side, and strided tensors', () => {
    const x = positive(new Random(6), [6, 7]);
    const t = transpose(tensorOf(x, [6, 7], 'f32'));
    expectClose(
      transpose(operator(t, 1.5)),
      x.map((v) => f(Math.fround(v), 1.5)),
      { relative: 3e-7 },
    );
    expectClose(
      transpose(operator(1.5, t)),
      x.map((v) => f(1.5, Math.fround(v))),
      { relative: 3e-7 },
    );
  });

  test('has the gradients of finite differences', async () => {
    const random = new Random(8);
    const [a, b] = [
      tensorOf(positive(random, [2, 1, 4]), [2, 1, 4], 'f64'),
      tensorOf(positive(random, [3, 1]), [3, 1], 'f64'),
    ];
    await checkGradients(operator, [a, b]);
    await checkGradients((x) => operator(x, 1.7), [a]);
    await checkGradients((x) => operator(1.7, x), [a]);
  });

  test('has second-order gradients', async () => {
    const random = new Random(9);
    const [a, b] = [
      tensorOf(positive(random, [2, 3]), [2, 3], 'f64'),
      tensorOf(positive(random, [3]), [3], 'f64'),
    ];
    const second = (x: Tensor, y: Tensor) => {
      const [p, q] = [x, y].map((t) => (t.requiresGrad ? t : t.detach().requireGrad())) as [
        Tensor,
        Tensor,
      ];
      const z = operator(p, q);
      const [gp, gq] = gradients([sum(mul(z, z))], [p, q], { createGraph: true });
      return [gp as Tensor, gq as Tensor];
    };
    await checkGradients(second, [a, b], { tolerance: 1e-6 });
  });
});

test('pow with common exponents', async () => {
  const x = tensorOf(positive(new Random(3), [9]), [9], 'f64');
  for (const exponent of [2, 0.5, -1, -0.5, 3, 0]) {
    expectClose(
      pow(x, exponent),
      values(x).map((v) => v ** exponent),
      { relative: 1e-14 },
    );
    await checkGradients((t) => pow(t, exponent), [x]);
  }
  expect([...values(pow(tensor([0, 2]), tensor([2, -1])))]).toEqual([0, 0.5]);
});

test('maximum and minimum keep NaN and send the gradient of ties to the first operand', () => {
  const nan = Number.NaN;
  expect([...values(maximum(tensor([nan, 1, 2]), tensor([1, nan, 3])))]).toEqual([nan, nan, 3]);
  expect([...values(minimum(tensor([nan, 1, 2]), tensor([1, nan, 3])))]).toEqual([nan, nan, 2]);
  const [a, b] = [tensor([1, 2]).requireGrad(), tensor([1, 3]).requireGrad()];
  sum(maximum(a, b)).backward();
  expect([...values(a.grad as Tensor)]).toEqual([1, 0]);
  expect([...values(b.grad as Tensor)]).toEqual([0, 1]);
});

test('i32 arithmetic wraps', () => {
  const ids = tensor(new Int32Array([1, -2, 2 ** 31 - 1]));
  expect([...add(ids, 1).dataSync()]).toEqual([2, -1, -(2 ** 31)]);
  expect([...sub(0, ids).dataSync()]).toEqual([-1, 2, -(2 ** 31) + 1]);
  expect([...mul(ids, ids).dataSync()]).toEqual([1, 4, 1]);
  expect([...maximum(ids, 0).dataSync()]).toEqual([1, 0, 2 ** 31 - 1]);
  expect([...minimum(ids, 0).dataSync()]).toEqual([0, -2, 0]);
});

test('what does not fit is refused with its remedy', () => {
  const refusal = (f: () => unknown) => {
    try {
      f();
    } catch (error) {
      expect(error).toBeInstanceOf(ArgumentError);
      return (error as Error).message;
    }
    return 'nothing was thrown';
  };
  const a = tensor([[1, 2, 3]]);
  expect(refusal(() => add(a, tensor([1, 2])))).toContain(
    "must broadcast with 'b', which is f32[2]",
  );
  expect(refusal(() => add(a, tensor(new Int32Array(3))))).toContain("'b' is i32[3]");
  expect(refusal(() => div(tensor(new Int32Array(3)), 2))).toContain('tensor.to(dtype) converts');
  expect(refusal(() => add(tensor(new Int32Array(3)), 0.5))).toContain("'b' is 0.5");
  expect(refusal(() => add(1, 2))).toContain('Pass a Tensor');
  const gone = tensor([1]);
  gone.dispose();
  expect(() => add(a, gone)).toThrow("'b' is a tensor that was disposed");
});

describeCuda('on cuda', () => {
  test.each(Object.keys(operators))('%s, broadcast, strided and with numbers', (name) => {
    const [operator] = operators[name] as [(a: Operand, b: Operand) => Tensor, unknown];
    const random = new Random(9);
    const make = (shape: number[]) => ({
      values: random.uniform(
        shape.reduce((n, d) => n * d, 1),
        0.5,
        2,
      ),
      shape,
    });
    compareDevices(operator, [make([5, 203]), make([5, 203])]);
    compareDevices(operator, [make([3, 1, 64]), make([7, 64])]);
    compareDevices(operator, [make([7, 1]), make([3, 1, 16])]);
    compareDevices((a, b) => operator(transpose(a), b), [make([24, 6]), make([6, 24])]);
    compareDevices((a) => operator(a, 1.5), [make([33])]);
    compareDevices((a) => operator(2, a), [make([33])]);
    compareDevices(operator, [make([0, 4]), make([1, 4])]);
  });

  test('integers wrap, NaN stays in maximum and minimum', () => {
    const a = tensor(new Int32Array([2 ** 31 - 1, -5, 7, 0, 3]));
    const b = tensor(new Int32Array([1, 3, -9, 2 ** 30, 3]));
    for (const f of [add, sub, mul, maximum, minimum]) {
      expectSameOnCuda((_, x, y) => f(x as Tensor, y as Tensor), [a, b]);
      expectSameOnCuda((_, x) => f(x as Tensor, 3), [a]);
    }
    const x = tensor([Number.NaN, 1, 2]);
    const y = tensor([1, Number.NaN, 3]);
    for (const f of [maximum, minimum])
      expectSameOnCuda((_, s, t) => f(s as Tensor, t as Tensor), [x, y]);
  });
});
