import {
  crossEntropy,
  type Device,
  device,
  normal,
  OperatorError,
  ones,
  type Tensor,
  tensor,
  transpose,
  zeros,
} from 'longspan';
import { crossEntropyReference } from '../reference/cross-entropy.js';
import {
  epsilon,
  expectClose,
  expectLowPrecision,
  rounded,
  tensorOf,
  values,
} from '../support/compare.js';
import { describeCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const ids = (x: ArrayLike<number>, shape = [x.length]) => tensorOf(x, shape, 'i32');
const sum = (x: Float64Array) => x.reduce((a, b) => a + b, 0);

const variants = [
  {},
  { labelSmoothing: 0.1 },
  { labelSmoothing: 0.1, smoothingOver: 'others', ignoreIndex: 0 },
  { labelSmoothing: 0.2, smoothingOver: 'others' },
  { zLoss: 0.01, ignoreIndex: 2 },
] as const;

describe.each([
  [5, 3],
  [23, 239],
  [2, 3001],
])('%d rows of %d classes', (rows, classes) => {
  const random = new Random(rows);
  const x = random.normal(rows * classes, 0, 2);
  const targets = random.integers(rows, 0, classes);
  targets[1] = 0; // ignored by one variant
  targets[rows - 1] = 2; // and by another

  test.each(variants)('%j equals its twin', (options) => {
    const ignored = 'ignoreIndex' in options ? options.ignoreIndex : -100;
    const counted = targets.filter((t) => t !== ignored).length;
    for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
      const logits = tensorOf(x, [rows, classes], dtype);
      const expected = crossEntropyReference(rounded(x, dtype), classes, targets, options);
      const tolerance = {
        relative: dtype === 'f64' ? 1e-12 : 3e-6,
        absolute: dtype === 'f64' ? 1e-12 : 3e-6,
      };
      const none = crossEntropy(logits, ids(targets), { ...options, reduction: 'none' });
      expect(none.dtype).toBe(dtype === 'f64' ? 'f64' : 'f32');
      expectClose(none, expected, tolerance);
      const total = sum(expected);
      expectClose(crossEntropy(logits, ids(targets), { ...options, reduction: 'sum' }), [total], {
        relative: 1e-5,
      });
      expectClose(crossEntropy(logits, ids(targets), options), [total / counted], {
        relative: 1e-5,
      });
    }
  });

  test.each(variants)('%j has the gradient of finite differences', async (options) => {
    const logits = tensorOf(x, [rows, classes], 'f64');
    for (const reduction of ['mean', 'sum', 'none'] as const) {
      await checkGradients(
        (t) => crossEntropy(t, ids(targets), { ...options, reduction }),
        [logits],
        {
          elements: 20,
        },
      );
    }
  });
});

test('gradients of 16-bit logits', () => {
  const [rows, classes] = [31, 97];
  const x = new Random(9).normal(rows * classes);
  const targets = ids(new Random(10).integers(rows, 0, classes));
  const run = (dtype: 'f64' | 'bf16' | 'f16', from: ArrayLike<number>) => {
    const logits = tensorOf(from, [rows, classes], dtype).requireGrad();
    crossEntropy(logits, targets, { reduction: 'sum' }).backward();
    return values(logits.grad as Tensor);
  };
  const exact = run('f64', x);
  for (const dtype of ['bf16', 'f16'] as const) {
    const naive = rounded(run('f64', rounded(x, dtype)), dtype);
    expectLowPrecision(run(dtype, x), exact, naive, { dtype, factor: 3 });
  }
});

test('batches of any rank and views', () => {
  const x = tensorOf(new Random(3).normal(2 * 3 * 7), [2, 3, 7], 'f32');
  const targets = [0, 1, 2, 3, 4, 5];
  const flat = crossEntropy(x.reshape(6, 7), ids(targets), { reduction: 'none' });
  const deep = crossEntropy(x, ids(targets, [2, 3]), { reduction: 'none' });
  expect(deep.shape).toEqual([2, 3]);
  expect(values(deep)).toEqual(values(flat));
  // Logits and targets both transposed.
  const swapped = crossEntropy(x.permute(1, 0, 2), transpose(ids(targets, [2, 3])), {
    reduction: 'none',
  });
  expect(values(transpose(swapped))).toEqual(values(flat));
  expect(crossEntropy(tensor([1, 2, 3]), ids([1], [])).shape).toEqual([]);
});

test('nothing that counts: loss and gradient 0', () => {
  const logits = normal([3, 5]).requireGrad();
  const loss = crossEntropy(logits, ids([-100, -100, -100]));
  expect(loss.itemSync()).toBe(0);
  loss.backward();
  expect(values(logits.grad as Tensor)).toEqual(new Float64Array(15));
  expect(crossEntropy(zeros([0, 5]), ids([])).itemSync()).toBe(0);
});

test('masked and huge logits', () => {
  const masked = tensor([[0, Number.NEGATIVE_INFINITY, 0]]);
  expect(crossEntropy(masked, ids([0])).itemSync()).toBeCloseTo(Math.log(2), 6);
  expect(crossEntropy(masked, ids([1])).itemSync()).toBe(Number.POSITIVE_INFINITY);
  expect(crossEntropy(tensor([[1e30, 0]]), ids([0])).itemSync()).toBe(0);
  expect(crossEntropy(tensor([[Number.NaN, 0]]), ids([1])).itemSync()).toBeNaN();
});

test('a target out of range fails when it runs, named by position', async () => {
  const bad = crossEntropy(zeros([2, 3, 4]), ids([0, 1, 2, 3, 4, -7], [2, 3]));
  await expect(bad.item()).rejects.toThrow(OperatorError);
  expect(() => bad.itemSync()).toThrow(/crossEntropy.*targets.*\[1, 1\] is 4.*0 to 3/);
  expect(crossEntropy(zeros([1, 4]), ids([0])).itemSync()).toBeCloseTo(Math.log(4), 6);
});

test('wrong arguments are named', () => {
  const logits = zeros([2, 3]);
  expect(() => crossEntropy(logits, ids([0]))).toThrow(/'targets' is i32\[1\].*f32\[2, 3\]/);
  expect(() => crossEntropy(logits, ones([2]))).toThrow(/'targets' is f32\[2\].*i32/);
  expect(() => crossEntropy(zeros([2, 0]), ids([0, 0]))).toThrow(/classes/);
  expect(() => crossEntropy(logits, ids([0, 0]), { labelSmoothing: 2 })).toThrow(
    /'smoothing' is 2/,
  );
  expect(() => crossEntropy(logits, ids([0, 0]), { reduction: 'avg' as never })).toThrow(/'mean'/);
  expect(() => crossEntropy(logits, ids([0, 0]), { labelSmooth: 1 } as never)).toThrow(
    /Did you mean 'labelSmoothing'/,
  );
});

describeCuda('on cuda', () => {
  let on: Device;
  beforeAll(() => {
    on = device('cuda');
  });
  test.each([
    [5, 3],
    [23, 239],
    [70, 40],
    [2, 16400],
  ])('%d rows of %d classes, losses and gradients', (rows, classes) => {
    const random = new Random(rows);
    const x = random.normal(rows * classes, 0, 2);
    const targets = random.integers(rows, 0, classes);
    targets[1] = 0;
    targets[rows - 1] = 2;
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      for (const variant of variants) {
        for (const reduction of ['mean', 'sum', 'none'] as const) {
          const options = { ...variant, reduction };
          const upstream = reduction === 'none' ? random.normal(rows) : [0.7];
          const run = (where: Device) => {
            const logits = tensorOf(x, [rows, classes], dtype).to(where).requireGrad();
            const loss = crossEntropy(logits, ids(targets).to(where), options);
            loss.backward({ gradient: tensorOf(upstream, loss.shape, 'f32').to(where) });
            return [values(loss), values(logits.grad as Tensor)] as const;
          };
          const [loss, grad] = run(on);
          const [expectedLoss, expectedGrad] = run(device('cpu'));
          expectClose(loss, expectedLoss, { relative: 4e-6, absolute: 2e-6 }, 'loss');
          const unit = dtype === 'f32' ? 4e-6 : epsilon[dtype];
          expectClose(grad, expectedGrad, { relative: unit, absolute: 1e-7 }, 'gradient');
        }
      }
    }
  });

  test('views, nothing that counts, masked logits, a target out of range', () => {
    const run = (logits: Tensor, targets: Tensor, options = {}) =>
      values(crossEntropy(logits.to(on), targets.to(on), options));
    const x = tensorOf(new Random(3).normal(60), [12, 5], 'f32');
    const targets = ids(new Random(4).integers(5, 0, 12));
    expectClose(
      values(crossEntropy(transpose(x.to(on)), targets.to(on), { reduction: 'none' })),
      values(crossEntropy(transpose(x), targets, { reduction: 'none' })),
      { relative: 2e-6 },
    );
    expect([...run(zeros([2, 3]), ids([-100, -100]))]).toEqual([0]);
    expect([...run(zeros([0, 3]), ids([], [0]))]).toEqual([0]);
    const masked = tensor([[Number.NEGATIVE_INFINITY, 0, 0]]);
    expectClose(run(masked, ids([1])), [Math.LN2], { relative: 1e-6 });
    expect(run(zeros([2, 3]), ids([0, 3]), { reduction: 'none' })[1]).toBeNaN();
  });
});
