import * as longspan from 'longspan';
import { gradients, mul, sum, type Tensor, tensor, transpose } from 'longspan';
import { unary } from '../reference/unary.js';
import { checkAgainstTwin, expectClose, rounded, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

type Name = keyof typeof unary;
const operators: Record<Name, (x: Tensor) => Tensor> = {
  ...(longspan as unknown as Record<Name, (x: Tensor) => Tensor>),
  gelu: (x) => longspan.gelu(x),
  geluTanh: (x) => longspan.gelu(x, { approximate: 'tanh' }),
};
const names = Object.keys(unary) as Name[];
/** Defined for x > 0 only. */
const positive = new Set<Name>(['log', 'sqrt', 'rsqrt']);
const constantSlope = new Set<Name>(['floor', 'round', 'sign']);

function inputsOf(name: Name, count: number): Float64Array {
  const x = new Random(7).normal(count, 0, 2);
  if (positive.has(name)) return x.map((v) => Math.abs(v) + 0.01);
  // Away from poles and kinks, where finite differences and rounding say nothing.
  return x.map((v) => v + Math.sign(v) * (name === 'reciprocal' ? 0.2 : 0.01));
}

describe.each(names)('%s', (name) => {
  const operator = operators[name];
  const twin = (x: Float64Array) => x.map(unary[name]);

  test.each([[1], [7], [1037], [3 * 1100]])('agrees with its float64 twin, %i elements', (n) => {
    checkAgainstTwin(operator, twin, [{ values: inputsOf(name, n), shape: [n] }], {
      f32Tolerance: 3e-7,
      // Jumps: a rounded input may fall on the other side.
      dtypes: constantSlope.has(name) ? ['f64', 'f32'] : undefined,
    });
  });

  test('takes strided and empty tensors', () => {
    const x = inputsOf(name, 35);
    const y = operator(transpose(tensorOf(x, [5, 7], 'f32')));
    expect(y.shape).toEqual([7, 5]);
    expect(y.isContiguous).toBe(true);
    expectClose(transpose(y), twin(x), { relative: 1e-6, absolute: 1e-6 });
    expect(operator(tensor(new Float32Array(0), { shape: [0, 3] })).shape).toEqual([0, 3]);
  });

  test('has the gradient of finite differences, twice', async () => {
    const x = tensorOf(inputsOf(name, 24), [4, 6], 'f64');
    await checkGradients(operator, [x]);
    await checkGradients((t) => operator(transpose(t)), [x]);
    const first = (t: Tensor, createGraph: boolean) => {
      const leaf = t.requiresGrad ? t : t.detach().requireGrad();
      const y = operator(leaf);
      const [g] = gradients([sum(mul(y, y))], [leaf], { createGraph });
      return g as Tensor;
    };
    await checkGradients((t) => first(t, true), [x], { tolerance: 1e-5 });
    // What is differentiated again is another formula than the kernel's, for the same gradient.
    expectClose(first(x, true), values(first(x, false)), { relative: 1e-12, absolute: 1e-12 });
  });

  test('keeps NaN', () => {
    const x = new Float32Array(21).fill(1);
    x[3] = x[20] = Number.NaN;
    const y = values(operator(tensor(x)));
    expect([...y].flatMap((v, i) => (Number.isNaN(v) ? [i] : []))).toEqual([3, 20]);
  });
});

test('vector functions are exact at their special points', () => {
  const inf = Number.POSITIVE_INFINITY;
  const at = (f: (x: Tensor) => Tensor, x: number[]) => [...values(f(tensor(x)))];
  expect(at(operators.exp, [0, inf, -inf, 1000, -1000])).toEqual([1, inf, 0, inf, 0]);
  expect(at(operators.log, [1, 0, inf])).toEqual([0, -inf, inf]);
  expect(at(operators.log, [-1])[0]).toBeNaN();
  expectClose(at(operators.log, [1e-42, 1e38]), [Math.log(Math.fround(1e-42)), Math.log(1e38)], {
    relative: 2e-7,
  });
  expect(at(operators.tanh, [0, inf, -inf, 40])).toEqual([0, 1, -1, 1]);
  expect(at(operators.erf, [0, inf, -inf, 12])).toEqual([0, 1, -1, 1]);
  expect(at(operators.sigmoid, [0, inf, -inf])).toEqual([0.5, 1, 0]);
  expect(at(operators.softplus, [inf, -inf, 200])).toEqual([inf, 0, 200]);
  for (const f of [operators.gelu, operators.geluTanh, operators.silu]) {
    expect(at(f, [inf, -inf, 0]).map((v) => v + 0)).toEqual([inf, 0, 0]);
  }
  expect(at(operators.round, [0.5, 1.5, 2.5, -0.5, 8388609, 3e9]).map((v) => v + 0)).toEqual([
    0, 2, 2, 0, 8388609, 3e9,
  ]);
  expect(at(operators.floor, [-0.5, 2.9, -3, 4194304.5])).toEqual([-1, 2, -3, 4194304]);
  expectClose(
    at(operators.sin, [1e4, -3e6, 1e20]),
    [1e4, -3e6, 1e20].map((v) => Math.sin(Math.fround(v))),
    {
      absolute: 2e-7,
    },
  );
});

test('f32 functions stay within a few units in the last place over their range', () => {
  const range: [Name, number, number][] = [
    ['exp', -87, 88],
    ['log', 1e-30, 100],
    ['tanh', -9, 9],
    ['erf', -4, 4],
    ['sigmoid', -80, 80],
    ['softplus', -80, 80],
    ['sin', -1, 1],
    ['gelu', -2, 6],
    ['silu', -80, 80],
  ];
  for (const [name, low, high] of range) {
    const x = Float64Array.from(Float32Array.from(new Random(11).uniform(20000, low, high)));
    const y = operators[name](tensor(Float32Array.from(x)));
    expectClose(y, x.map(unary[name]), { relative: 6e-7, absolute: 1e-37 }, name);
  }
});

test('integers and misspelt options are refused', () => {
  expect(() => longspan.exp(tensor(new Int32Array(2)))).toThrow("exp: 'x' is i32[2]");
  expect(() => longspan.gelu(tensor([1]), { approximate: 'fast' as 'tanh' })).toThrow(
    "Use 'none' or 'tanh'",
  );
  expect(() => longspan.gelu(tensor([1]), { approx: 'tanh' } as object)).toThrow(
    "Did you mean 'approximate'",
  );
  const x = tensor([1]);
  x.dispose();
  expect(() => longspan.exp(x)).toThrow('was disposed');
});

describeCuda('on cuda', () => {
  test.each(names)('%s and its gradient', (name) => {
    const operator = operators[name];
    const x = { values: inputsOf(name, 17 * 61), shape: [17, 61] };
    const u = { values: new Random(8).normal(17 * 61), shape: [17, 61] };
    compareDevices(operator, [x]);
    compareDevices((t) => operator(transpose(t)), [x], { dtypes: ['f16'] });
    const gradient = (t: Tensor, g: Tensor): Tensor => {
      const leaf = t.clone().requireGrad();
      return gradients([operator(leaf)], [leaf], { gradients: [g] })[0] as Tensor;
    };
    compareDevices(gradient, [x, u], { factor: 3, naive: 'cpu' });
  });

  // Over all that 16 bits or a tail hold: in f32 a few units in the last place, otherwise a quarter
  // of one beyond the half that rounding takes.
  test.each([
    ['gelu', -12, 9],
    ['tanh', -9, 9],
    ['erf', -4, 4],
    ['sigmoid', -80, 80],
    ['silu', -80, 80],
    ['softplus', -80, 80],
    ['exp', -80, 10],
  ] as [Name, number, number][])('%s is as exact as its type', (name, low, high) => {
    const inputs = Float64Array.from(new Random(12).uniform(3000, low, high));
    for (let i = 0; i < 200; i++) inputs[i] = (i - 100) / 250;
    // Smallest normal numbers of the types, and half a step of f16 around 1.
    for (const [dtype, relative, absolute] of [
      ['f32', 1e-6, 1e-37],
      ['bf16', 1.25 * 2 ** -8, 1e-37],
      ['f16', 1.25 * 2 ** -11, 2 ** -24],
    ] as const) {
      const x = rounded(inputs, dtype);
      const y = operators[name](tensorOf(x, [x.length], dtype).to(longspan.device('cuda')));
      expectClose(y, x.map(unary[name]), { relative, absolute }, `${name} in ${dtype}`);
    }
  });

  test('nothing, infinities and NaN', () => {
    const special = [0, -0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];
    for (const name of ['relu', 'silu', 'gelu', 'geluTanh', 'abs', 'sign', 'tanh'] as const) {
      compareDevices(operators[name], [{ values: special, shape: [5] }]);
      compareDevices(operators[name], [{ values: [], shape: [0, 3] }]);
    }
  });
});
