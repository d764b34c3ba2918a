import { cast, type DType, expand, full, permute, slice, type Tensor, transpose } from 'longspan';
import { accumulate, assign, copy } from '#lib/core/primitives';
import { expectClose, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda, expectSameOnCuda } from '../support/devices.js';
import { Random } from '../support/random.js';

const dtypes = ['f32', 'f16', 'bf16', 'f64', 'i32', 'u8'] as const;
const sizeOf = (shape: readonly number[]) => shape.reduce((n, d) => n * d, 1);
const make = (shape: number[], dtype: DType) =>
  tensorOf(new Random(1).integers(sizeOf(shape), 0, 200), shape, dtype);
const given = (t: Tensor | undefined) => t as Tensor;

test.each(dtypes)('views of %s are copied in row-major order', (dtype) => {
  const x = make([4, 5, 6], dtype);
  const data = values(x);
  const y = copy(permute(x, [2, 0, 1]));
  expect(y.isContiguous).toBe(true);
  const at = (i: number, j: number, k: number) => data[(j * 5 + k) * 6 + i] as number;
  const expected = Float64Array.from({ length: 120 }, (_, n) =>
    at(Math.floor(n / 20), Math.floor(n / 5) % 4, n % 5),
  );
  expectClose(y, expected, {});
});

describeCuda('on cuda', () => {
  const shapes: [string, (t: Tensor) => Tensor, number[]][] = [
    ['contiguous', (t) => t, [3, 37]],
    ['one element', (t) => t, [1]],
    ['empty', (t) => t, [3, 0]],
    ['transposed, in tiles', (t) => transpose(t), [70, 133]],
    ['planes transposed', (t) => transpose(t), [3, 17, 65]],
    ['more planes than blocks', (t) => transpose(t), [300, 16, 17]],
    ['heads moved', (t) => permute(t, [0, 2, 1, 3]), [2, 5, 3, 8]],
    ['three axes turned round', (t) => permute(t, [2, 1, 0]), [20, 3, 18]],
    ['a part', (t) => slice(slice(t, 1, 1, 6), 0, 1, 4), [5, 7]],
    ['broadcast', (t) => expand(t, [4, 3, 8]), [3, 1]],
  ];

  test.each(dtypes)('copies of %s', (dtype) => {
    for (const [, view, shape] of shapes) {
      expectSameOnCuda((_, x) => copy(view(given(x))), [make(shape, dtype)]);
    }
  });

  test.each(dtypes.flatMap((from) => dtypes.map((to) => [from, to] as const)))(
    '%s becomes %s',
    (from, to) => {
      expectSameOnCuda((_, x) => cast(given(x), to), [make([1037], from)]);
      expectSameOnCuda((_, x) => cast(transpose(given(x)), to), [make([9, 7], from)]);
      if (from === 'u8' || from === 'i32' || to === 'u8' || to === 'i32') return;
      const x = tensorOf(new Random(2).normal(4096, 0, 1e3), [4096], from);
      expectSameOnCuda((_, t) => cast(given(t), to), [x]);
    },
  );

  test.each(dtypes)('values of %s are written into views and filled in', (dtype) => {
    const write = (_: unknown, y?: Tensor, x?: Tensor) => {
      const target = copy(given(y));
      assign(slice(transpose(target), 0, 1, 5), given(x));
      return target;
    };
    expectSameOnCuda(write, [make([6, 7], dtype), make([4, 6], dtype)]);
    expectSameOnCuda(write, [make([6, 7], dtype), make([6], dtype)]);
    expectSameOnCuda((on) => full([3, 67], 7, { dtype, device: on }));
    expectSameOnCuda((on) => full([], 1, { dtype, device: on }));
  });

  test('gradients are added', () => {
    const random = new Random(3);
    const pair = (shape: number[]) =>
      [0, 1].map(() => ({ values: random.normal(sizeOf(shape)), shape }));
    compareDevices(accumulate, pair([1037]));
    compareDevices((a, b) => accumulate(transpose(a), transpose(b)), pair([7, 9]));
  });
});
