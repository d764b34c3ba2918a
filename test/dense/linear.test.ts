import { type Activation, ArgumentError, linear, type Tensor, transpose } from 'longspan';
import { matmulTwin, transposedTwin } from '../reference/matmul.js';
import { checkAgainstTwin, expectClose, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const size = (shape: readonly number[]) => shape.reduce((n, d) => n * d, 1);
const random = (seed: number, shape: readonly number[]) => new Random(seed).normal(size(shape));
const activationNames: Activation[] = ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'reluSquared'];

function linearTwin(
  x: { values: ArrayLike<number>; shape: readonly number[] },
  weight: { values: ArrayLike<number>; shape: readonly number[] },
  bias: ArrayLike<number> | null,
  activation: Activation = 'none',
): Float64Array {
  return matmulTwin(x, transposedTwin(weight), bias, activation).values;
}

test.each([
  [[113, 67], 203],
  [[1, 239], 113],
  [[3, 2, 799], 3],
  [[2, 3, 17, 33], 65],
  [[40, 600], 20],
])('equals x weight^T + bias in every dtype, %j -> %d', (shapeX, out) => {
  const shapeW = [out, shapeX.at(-1) as number];
  checkAgainstTwin(
    (x, w, b) => linear(x, w, b, { activation: 'gelu' }),
    (x, w, b) =>
      linearTwin(
        { values: x as Float64Array, shape: shapeX },
        { values: w as Float64Array, shape: shapeW },
        b as Float64Array,
        'gelu',
      ),
    [
      { values: random(1, shapeX), shape: shapeX },
      { values: random(2, shapeW).map((v) => v / 10), shape: shapeW },
      { values: random(3, [out]), shape: [out] },
    ],
    { f32Tolerance: 1e-5 },
  );
});

test('without bias; decoding one row gives the row of many, within rounding', () => {
  const [x, w] = [random(4, [20, 130]), random(5, [70, 130])];
  const weight = tensorOf(w, [70, 130], 'f32');
  const all = values(linear(tensorOf(x, [20, 130], 'f32'), weight));
  const one = linear(tensorOf(x.slice(0, 130), [1, 130], 'f32'), weight);
  expectClose(one, all.slice(0, 70), { absolute: 2e-5 });
});

test.each(activationNames)('gradients against finite differences, %s', async (activation) => {
  await checkGradients(
    (x, w, b) => linear(x, w, b, { activation }),
    [
      tensorOf(random(6, [2, 4, 3]), [2, 4, 3], 'f64'),
      tensorOf(random(7, [5, 3]), [5, 3], 'f64'),
      tensorOf(random(8, [5]), [5], 'f64'),
    ],
  );
});

test('gradients of strided inputs, batch axes that do not merge included', async () => {
  await checkGradients(
    (x, w) => linear(transpose(x, 0, 1), transpose(w)),
    [tensorOf(random(9, [3, 4, 5]), [3, 4, 5], 'f64'), tensorOf(random(10, [5, 6]), [5, 6], 'f64')],
  );
});

test('computes the gradients that are wanted', () => {
  const x = tensorOf(random(1, [4, 3]), [4, 3], 'f32');
  const w = tensorOf(random(2, [2, 3]), [2, 3], 'f32');
  const bias = tensorOf([0, 0], [2], 'f32').requireGrad();
  linear(x, w, bias).backward({ gradient: tensorOf(new Array(8).fill(1), [4, 2], 'f32') });
  expect(Array.from(values(bias.grad as Tensor))).toEqual([4, 4]);
  expect(x.grad).toBeNull();
  expect(w.grad).toBeNull();
});

test('a pre-activation is kept for backward only, and freed with the graph', () => {
  const live = () => x.device.memory().tensors;
  const x = tensorOf(random(1, [4, 3]), [4, 3], 'f32').requireGrad();
  const w = tensorOf(random(2, [2, 3]), [2, 3], 'f32');
  const before = live();
  const y = linear(x, w, null, { activation: 'gelu' });
  expect(live()).toBe(before + 2);
  const ones = tensorOf(new Array(8).fill(1), [4, 2], 'f32');
  y.backward({ gradient: ones });
  y.dispose();
  ones.dispose();
  x.grad?.dispose();
  expect(live()).toBe(before);
});

describeCuda('on cuda', () => {
  test.each([
    [5, 40, 24],
    [1, 96, 200],
    [70, 33, 17],
  ])('%i rows, %i in, %i out', (rows, inside, outside) => {
    compareDevices(
      (x, w, bias) => linear(x, w, bias, { activation: 'gelu' }),
      [[2, rows, inside], [outside, inside], [outside]].map((shape, i) => ({
        values: random(i + 1, shape),
        shape,
      })),
      { f32Tolerance: 1e-5 },
    );
  });
});

describe('errors name the arguments of linear', () => {
  const f32 = (...shape: number[]) => tensorOf(new Array(size(shape)).fill(0), shape, 'f32');
  test.each([
    ['a vector', () => linear(f32(3), f32(2, 3)), 'ERR_RANK', 'x'],
    ['weight rank', () => linear(f32(4, 3), f32(1, 2, 3)), 'ERR_RANK', 'weight'],
    ['lengths', () => linear(f32(4, 3), f32(3, 2)), 'ERR_SHAPE', 'x'],
    ['dtype', () => linear(f32(4, 3), tensorOf([0, 0, 0], [1, 3], 'f16')), 'ERR_DTYPE', 'weight'],
    ['bias', () => linear(f32(4, 3), f32(2, 3), f32(3)), 'ERR_SHAPE', 'bias'],
    [
      'option',
      () => linear(f32(4, 3), f32(2, 3), null, { activaton: 'relu' } as object),
      'ERR_OPTION',
      'activaton',
    ],
  ] as const)('%s', (_, run, code, argument) => {
    let error: unknown;
    try {
      run();
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error).toMatchObject({ code, operator: 'linear', argument });
  });
});
