import * as longspan from 'longspan';
import { concat, gradients, slice, type Tensor, tensor, transpose } from 'longspan';
import { gated } from '../reference/gated.js';
import { checkAgainstTwin, expectClose, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

type Name = keyof typeof gated;
const operators = longspan as unknown as Record<Name, (a: Tensor, b?: Tensor) => Tensor>;

describe.each(Object.keys(gated) as Name[])('%s', (name) => {
  const operator = operators[name];
  const f = gated[name];

  test.each([[[7]], [[3, 700]], [[2, 3, 1]], [[0, 4]]])(
    'agrees with its float64 twin, %j',
    (shape) => {
      const random = new Random(3);
      const size = shape.reduce((n, d) => n * d, 1);
      const inputs = [random.normal(size), random.normal(size)].map((data) => ({
        values: data,
        shape,
      }));
      const twin = (a: Float64Array, b: Float64Array) => a.map((v, i) => f(v, b[i] as number));
      checkAgainstTwin(operator, twin, inputs, { f32Tolerance: 4e-7 });
      checkAgainstTwin((a, b) => operator(concat([a, b], -1)), twin, inputs, {
        f32Tolerance: 4e-7,
      });
    },
  );

  test('has the gradients of finite differences, joined, apart and strided', async () => {
    const x = tensorOf(new Random(4).normal(24), [4, 6], 'f64');
    await checkGradients((t) => operator(t), [x]);
    await checkGradients((t) => operator(transpose(t)), [x]);
    await checkGradients((t) => operator(slice(t, 1, 0, 2)), [x]);
    await checkGradients(
      (a, b) => operator(a, b),
      [x, tensorOf(new Random(5).normal(24), [4, 6], 'f64')],
    );
  });

  test('gradients in f32 and bf16 follow those in f64', () => {
    const x = new Random(6).normal(2200);
    const up = new Random(7).normal(1100);
    const gradientIn = (dtype: 'f64' | 'f32' | 'bf16') => {
      const leaf = tensorOf(x, [2, 1100], dtype).requireGrad();
      operator(leaf).backward({ gradient: tensorOf(up, [2, 550], dtype) });
      return values(leaf.grad as Tensor);
    };
    const exact = gradientIn('f64');
    expectClose(gradientIn('f32'), exact, { absolute: 2e-6 });
    expectClose(gradientIn('bf16'), exact, { absolute: 0.12 });
  });
});

test('odd and unequal operands are refused', () => {
  expect(() => longspan.swiglu(tensor([1, 2, 3]))).toThrow('its length must be even');
  expect(() => longspan.glu(tensor([1, 2]), tensor([1]))).toThrow("must have the shape of 'a'");
  expect(() => longspan.glu(tensor(new Int32Array(2)))).toThrow("'a' is i32[2]");
});

describeCuda('on cuda', () => {
  test.each(Object.keys(gated) as Name[])('%s and its gradients', (name) => {
    const random = new Random(13);
    const make = (shape: number[]) => ({
      values: random.normal(shape.reduce((n, d) => n * d, 1)),
      shape,
    });
    const operator = operators[name];
    const both = (a: Tensor, b: Tensor, u: Tensor) => {
      const leaves = [a.clone().requireGrad(), b.clone().requireGrad()] as [Tensor, Tensor];
      return gradients([operator(...leaves)], leaves, { gradients: [u] }) as Tensor[];
    };
    const joined = (a: Tensor, u: Tensor) => {
      const leaf = a.clone().requireGrad();
      return gradients([operator(leaf)], [leaf], { gradients: [u] }) as Tensor[];
    };
    compareDevices(operator, [make([5, 203]), make([5, 203])]);
    compareDevices(operator, [make([5, 48])]);
    compareDevices((a) => operator(transpose(a)), [make([6, 17])]);
    compareDevices(both, [make([5, 203]), make([5, 203]), make([5, 203])], { factor: 3 });
    compareDevices(joined, [make([9, 2]), make([9, 1])], { factor: 3 });
    compareDevices(joined, [make([3, 32]), make([3, 16])], { factor: 3 });
  });
});
