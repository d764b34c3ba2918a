import { type Ordered, permute, sort, type Tensor, tensor, topK } from 'longspan';
import { alongAxis, order } from '../reference/lines.js';
import { tensorOf, values } from '../support/compare.js';
import { describeCuda, expectSameOnCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const shapes: [number[], number][] = [
  [[1], 0],
  [[50], 0],
  [[5000], 0],
  [[3, 40], 1],
  [[40, 3], 0],
  [[2, 7, 5], 1],
  [[2, 0], 1],
];
const dtypes = ['f32', 'f64', 'f16', 'bf16', 'i32', 'u8'] as const;
const sizeOf = (shape: readonly number[]) => shape.reduce((n, d) => n * d, 1);

function expectOrder(
  actual: Ordered,
  x: ArrayLike<number>,
  shape: number[],
  axis: number,
  f: (line: number[]) => number[],
): void {
  const indices = alongAxis(x, shape, axis, f);
  expect(actual.indices.dtype).toBe('i32');
  expect(actual.indices.shape).toEqual(indices.shape);
  expect([...actual.indices.dataSync()]).toEqual([...indices.data]);
  const picked = alongAxis(x, shape, axis, (line) => f(line).map((i) => line[i] as number));
  expect([...values(actual.values)]).toEqual([...picked.data]);
}

test.each(shapes)('sort of %j along %i, stable, every dtype', (shape, axis) => {
  const x = new Random(3).integers(sizeOf(shape), 0, 60);
  for (const dtype of dtypes) {
    const t = tensorOf(x, shape, dtype);
    expectOrder(sort(t, { axis }), x, shape, axis, (line) => order(line));
    expectOrder(sort(t, { axis, descending: true }), x, shape, axis, (line) => order(line, true));
  }
});

test('long lines of reals sort by value', () => {
  const x = Float64Array.from(Float32Array.from(new Random(4).normal(20_000)));
  for (const dtype of ['f32', 'f64'] as const)
    expectOrder(sort(tensorOf(x, [x.length], dtype)), x, [x.length], 0, (line) => order(line));
});

test('zeros are equal, NaN is largest, infinities sort', () => {
  const inf = Number.POSITIVE_INFINITY;
  const x = [0, -0, Number.NaN, -inf, inf, -1, Number.NaN, 2];
  for (const dtype of ['f32', 'f64', 'bf16', 'f16'] as const) {
    const t = tensorOf(x, [8], dtype);
    expect([...sort(t).indices.dataSync()]).toEqual([3, 5, 0, 1, 7, 4, 2, 6]);
    expect([...sort(t, { descending: true }).indices.dataSync()]).toEqual([2, 6, 4, 7, 0, 1, 5, 3]);
    expect(Object.is(values(sort(t).values)[3], -0)).toBe(true);
  }
});

test.each(shapes)('topK of %j along %i', (shape, axis) => {
  const x = new Random(5).integers(sizeOf(shape), -30, 30);
  const length = shape[axis] as number;
  for (const k of [0, 1, Math.floor(length / 2), length].filter((n) => n <= length)) {
    for (const dtype of ['f32', 'f64', 'bf16', 'i32'] as const) {
      const t = tensorOf(x, shape, dtype);
      expectOrder(topK(t, k, { axis }), x, shape, axis, (line) => order(line, true).slice(0, k));
      expectOrder(topK(t, k, { axis, largest: false }), x, shape, axis, (line) =>
        order(line).slice(0, k),
      );
    }
  }
});

test('gradients go back to where the values were', async () => {
  const x = tensorOf(new Random(6).normal(30), [2, 3, 5], 'f64');
  for (const axis of [0, 1, 2]) {
    await checkGradients((t) => sort(t, { axis, descending: true }).values, [x]);
    await checkGradients((t) => topK(permute(t, [2, 1, 0]), 2, { axis }).values, [x]);
  }
  const leaf = tensor([1, 3, 2]).requireGrad();
  const { values: top, indices } = topK(leaf, 1);
  top.backward();
  expect([...values(leaf.grad as Tensor)]).toEqual([0, 1, 0]);
  expect([...indices.dataSync()]).toEqual([1]);
});

test('k out of range, unknown axes and options are refused', () => {
  expect(() => topK(tensor([1, 2]), 3)).toThrow("topK: 'k' is 3. Use a number from 0 to 2");
  expect(() => sort(tensor(1))).toThrow('A scalar has no axes');
  expect(() => sort(tensor([1]), { decending: true } as object)).toThrow(
    "Did you mean 'descending'",
  );
});

describeCuda('on cuda', () => {
  const given = (t: Tensor | undefined) => t as Tensor;
  const both = ({ values: v, indices }: Ordered) => [v, indices];
  // One tile, small and full; merged tiles, an odd number of them; selection over several rounds.
  test.each([...shapes, [[2, 2049], 1], [[3, 64, 2], 1]] as [number[], number][])(
    'sort and topK of %j along %i',
    (shape, axis) => {
      const x = new Random(7).integers(sizeOf(shape), 0, 60);
      const length = shape[axis] as number;
      for (const dtype of dtypes.filter((name) => name !== 'f64')) {
        const t = tensorOf(x, shape, dtype);
        for (const flag of [false, true]) {
          expectSameOnCuda((_, a) => both(sort(given(a), { axis, descending: flag })), [t]);
          for (const k of [1, 3, length].filter((n) => n <= length)) {
            expectSameOnCuda((_, a) => both(topK(given(a), k, { axis, largest: flag })), [t]);
          }
        }
      }
    },
  );

  test('long lines, zeros, NaN and infinities', () => {
    const inf = Number.POSITIVE_INFINITY;
    const long = tensorOf(new Random(4).normal(9000), [9000], 'f32');
    expectSameOnCuda((_, a) => both(sort(given(a))), [long]);
    // Selection by a bound for up to 32, also where all are equal; of whole tiles; by sorting.
    const level = tensorOf(new Float64Array(4100), [4100], 'f32');
    for (const k of [8, 32, 40, 500, 600]) {
      for (const t of [long, level]) expectSameOnCuda((_, a) => both(topK(given(a), k)), [t]);
    }
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      const t = tensorOf([0, -0, Number.NaN, -inf, inf, -1, Number.NaN, 2], [8], dtype);
      expectSameOnCuda((_, a) => both(sort(given(a))), [t]);
      expectSameOnCuda((_, a) => both(sort(given(a), { descending: true })), [t]);
    }
  });
});
