import { ArgumentError, dropout, Generator, ones, type Tensor, transpose, zeros } from 'longspan';
import { philoxWords } from '../reference/philox.js';
import { checkAgainstTwin, tensorOf, values } from '../support/compare.js';
import { describeCuda, expectSameOnCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const list = (t: Tensor) => Array.from(values(t));

/** The definition: element i falls when its uniform number is below p. */
function dropoutTwin(x: ArrayLike<number>, p: number, seed: bigint): number[] {
  const words = philoxWords(seed, 0n, x.length);
  return Array.from(x, (v, i) => ((words[i] as number) >>> 8 < p * 2 ** 24 ? 0 : v / (1 - p)));
}

test.each([
  [[1, 239], 0.1],
  [[799, 3], 0.5],
  [[2, 3, 113], 0.9],
])('equals its definition in every dtype, %j with p = %d', (shape, p) => {
  const x = new Random(1).normal(shape.reduce((n, d) => n * d, 1));
  checkAgainstTwin(
    (t) => dropout(t, { p, generator: new Generator(3) }),
    (v) => dropoutTwin(v, p, 3n),
    [{ values: x, shape }],
  );
});

test('views are read by stride', () => {
  const x = tensorOf(new Random(2).normal(35), [5, 7], 'f32');
  const view = transpose(x);
  const y = dropout(view, { p: 0.3, generator: new Generator(4) });
  expect(y.shape).toEqual([7, 5]);
  expect(list(y)).toEqual(
    list(dropout(view.contiguous(), { p: 0.3, generator: new Generator(4) })),
  );
});

test('the gradient has the same mask, later draws notwithstanding', () => {
  const generator = new Generator(5);
  const x = ones([50]).requireGrad();
  const y = dropout(x, { p: 0.4, generator });
  dropout(x, { p: 0.4, generator });
  const before = list(y);
  y.backward({ gradient: ones([50]) });
  expect(list(x.grad as Tensor)).toEqual(before);
});

test('gradients against finite differences', async () => {
  await checkGradients(
    (x) => dropout(transpose(x), { p: 0.5, generator: new Generator(6) }),
    [tensorOf(new Random(3).normal(30), [5, 6], 'f64')],
  );
});

test('p = 0 and evaluation pass x through, p = 1 gives zeros even for infinities', () => {
  const x = ones([4]);
  expect(dropout(x, { p: 0 })).toBe(x);
  expect(dropout(x, { training: false })).toBe(x);
  const infinite = tensorOf([Number.POSITIVE_INFINITY, Number.NaN, 1, -1], [4], 'f32');
  expect(list(dropout(infinite, { p: 1 }))).toEqual([0, 0, 0, 0]);
  expect(dropout(zeros([0, 3])).shape).toEqual([0, 3]);
});

test('wrong arguments are named', () => {
  expect(() => dropout(ones([2]), { p: 1.1 })).toThrow(/dropout: 'p' is 1\.1/);
  expect(() => dropout(ones([2]), { p: Number.NaN })).toThrow(ArgumentError);
  expect(() => dropout(ones([2], { dtype: 'i32' }))).toThrow(/'x' is i32\[2\]/);
  expect(() => dropout(ones([2]), { rate: 1 } as never)).toThrow(/'rate'/);
  expect(() => dropout(3 as never)).toThrow(/Pass a Tensor/);
  const gone = ones([2]);
  gone.dispose();
  expect(() => dropout(gone)).toThrow(/disposed/);
});

describeCuda('on cuda', () => {
  test.each(['f32', 'f16', 'bf16'] as const)('the same elements fall in %s', (dtype) => {
    const drop = (x: Tensor) => dropout(x, { p: 0.4, generator: new Generator(9, x.device) });
    for (const shape of [[1], [1037], [7, 13], [0, 2]]) {
      const x = tensorOf(new Random(4).normal(shape.reduce((n, d) => n * d, 1)), shape, dtype);
      expectSameOnCuda((_, t) => drop(t as Tensor), [x]);
    }
    const x = tensorOf(new Random(5).normal(99), [9, 11], dtype);
    expectSameOnCuda((_, t) => drop(transpose(t as Tensor)), [x]);
    expectSameOnCuda(
      (_, t) => dropout(t as Tensor, { p: 1, generator: new Generator(1, t?.device) }),
      [x],
    );
  });
});
