/** gather, indexSelect and their kin on `cuda`, beside the CPU. */
import {
  concat,
  device,
  embedding,
  expand,
  gather,
  gradients,
  indexSelect,
  oneHot,
  ones,
  permute,
  reshape,
  scatterAdd,
  type Tensor,
  transpose,
  tril,
  triu,
  zeros,
} from 'longspan';
import { sizeOf } from '../reference/broadcast.js';
import { tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda, expectSameOnCuda } from '../support/devices.js';
import { Random } from '../support/random.js';

describeCuda('on cuda', () => {
  const random = new Random(21);
  const dtypes = ['f32', 'f16', 'bf16', 'i32', 'u8'] as const;
  const make = (dims: number[], dtype: (typeof dtypes)[number]) =>
    tensorOf(random.integers(sizeOf(dims), 0, 100), dims, dtype);
  const below = (n: number, dims: number[]) =>
    tensorOf(random.integers(sizeOf(dims), 0, n), dims, 'i32');
  const given = (t: Tensor | undefined) => t as Tensor;

  test.each(dtypes)('%s is moved unchanged', (dtype) => {
    const [a, b] = [make([3, 5, 16], dtype), make([3, 2, 16], dtype)];
    expectSameOnCuda((_, x, y) => concat([given(x), given(y)], 1), [a, b]);
    expectSameOnCuda((_, x, y) => concat([transpose(given(x)), transpose(given(y))], -1), [a, b]);
    for (const axis of [0, 1, 2]) {
      const index = below(3, [2, 5, 7]);
      const x = make([3, 5, 16], dtype);
      const places = below(axis === 0 ? 3 : 5, [2, 4, 7]);
      expectSameOnCuda((_, t, i) => gather(given(t), axis, given(i)), [x, places]);
      expectSameOnCuda(
        (_, t, i) => gather(transpose(given(t), 0, 1), axis, given(i)),
        [make([5, 3, 16], dtype), places],
      );
      expectSameOnCuda((_, t, i) => indexSelect(given(t), axis, given(i)), [x, index]);
      expectSameOnCuda(
        (_, t, i) => indexSelect(permute(given(t), [2, 0, 1]), axis, given(i)),
        [x, index],
      );
    }
    for (const diagonal of [-2, 0, 3]) {
      expectSameOnCuda(
        (_, x) => [tril(given(x), diagonal), triu(given(x), diagonal)],
        [make([2, 5, 7], dtype)],
      );
      expectSameOnCuda((_, x) => tril(transpose(given(x)), diagonal), [make([16, 9], dtype)]);
    }
    expectSameOnCuda((_, i) => oneHot(given(i), 7, { dtype }), [below(7, [3, 5])]);
    expectSameOnCuda((_, i) => oneHot(transpose(given(i)), 33, { dtype }), [below(33, [3, 5])]);
  });

  // Slices of one element, or of equal ones: the walk is contiguous, what it reads is not.
  test.each(dtypes)('%s is moved unchanged from a line, and from broadcast slices', (dtype) => {
    for (const n of [8, 16, 48, 4096]) {
      const [x, at] = [make([20], dtype), below(20, [n])];
      expectSameOnCuda((_, t, i) => gather(given(t), 0, given(i)), [x, at]);
      expectSameOnCuda((_, t, i) => indexSelect(given(t), 0, given(i)), [x, at]);
      expectSameOnCuda(
        (_, t, i) => gather(given(t), 1, given(i)),
        [make([1, 20], dtype), below(20, [1, n])],
      );
      expectSameOnCuda(
        (_, t, i) => indexSelect(expand(given(t), [3, n]), 0, given(i)),
        [make([3, 1], dtype), below(3, [2])],
      );
    }
  });

  test('sums of broadcast slices', () => {
    const index = below(7, [30]);
    const rows = { values: random.normal(30), shape: [30, 1] };
    compareDevices(
      (g, i) => {
        const leaf = zeros([7, 40], { dtype: g.dtype, device: g.device }).requireGrad();
        const y = indexSelect(leaf, 0, i);
        return gradients([y], [leaf], { gradients: [expand(g, [30, 40])] })[0] as Tensor;
      },
      [rows],
      { rest: [index], factor: 3 },
    );
    const x = { values: random.normal(7 * 40), shape: [7, 40] };
    compareDevices(
      (t, s, i) => scatterAdd(t, 0, expand(reshape(i, [30, 1]), [30, 40]), expand(s, [30, 40])),
      [x, rows],
      { rest: [index], factor: 3 },
    );
  });

  test('sums at indices, many at one place', () => {
    const x = { values: random.normal(4 * 9), shape: [4, 9] };
    const source = { values: random.normal(4 * 300), shape: [4, 300] };
    const index = below(9, [4, 300]);
    compareDevices((t, s, i) => scatterAdd(t, 1, i, s), [x, source], { rest: [index], factor: 3 });
    const few = { values: random.normal(3 * 4), shape: [4, 3] };
    compareDevices((t, s, i) => scatterAdd(transpose(t), 0, i, transpose(s)), [x, few], {
      rest: [below(9, [3, 4])],
    });
    const [a, s] = [make([6], 'i32'), make([500], 'i32')];
    expectSameOnCuda(
      (_, t, i, from) => scatterAdd(given(t), 0, given(i), given(from)),
      [a, below(6, [500]), s],
    );
  });

  test('sums slices that have one index each, and long runs of one element', () => {
    const x = { values: random.normal(7 * 40), shape: [7, 40] };
    const source = { values: random.normal(300 * 40), shape: [300, 40] };
    const names = below(9, [300]); // two of them out of range: left out by a GPU
    const inRange = tensorOf(
      [...values(names)].map((i) => i % 7),
      [300],
      'i32',
    );
    const along = (axis: number) => (t: Tensor, s: Tensor, i: Tensor) => {
      const index = reshape(i, axis === 0 ? [300, 1] : [1, 300]);
      const at = (y: Tensor) => (axis === 0 ? y : transpose(y));
      return scatterAdd(at(t), axis, expand(index, at(s).shape), at(s));
    };
    for (const axis of [0, 1]) {
      compareDevices(along(axis), [x, source], { rest: [inRange], factor: 3 });
    }
    const narrow = { values: random.normal(300 * 33), shape: [300, 33] };
    compareDevices(along(0), [x, narrow], { rest: [inRange], factor: 3 });
    const on = device('cuda');
    const y = scatterAdd(
      zeros([7, 40], { device: on }),
      0,
      expand(reshape(names.to(on), [300, 1]), [300, 40]),
      ones([300, 40], { device: on }),
    );
    const count = (id: number) => [...values(names)].filter((i) => i === id).length;
    expect([...values(y)]).toEqual([...Array(7 * 40).keys()].map((i) => count(Math.floor(i / 40))));
    const line = { values: random.normal(2000), shape: [2000] };
    const few = { values: [1, 2, 3], shape: [3] };
    const runs = tensorOf(
      [...Array(2000).keys()].map((i) => (i % 1000 < 70 ? 2 : i < 1000 ? 0 : 1)),
      [2000],
      'i32',
    );
    compareDevices((t, s, i) => scatterAdd(t, 0, i, s), [few, line], { rest: [runs], factor: 3 });
  });

  test.each([
    [[20, 48], [300]],
    [
      [300, 5],
      [7, 40],
    ],
    [[70000, 2], [50]],
  ])('the gradient of a table %j read at %j', (table, at) => {
    const index = below(table[0] as number, at);
    const width = table[1] as number;
    const u = { values: random.normal(sizeOf(at) * width), shape: [...at, width] };
    compareDevices(
      (g, i) => {
        const leaf = zeros(table, { dtype: g.dtype, device: g.device }).requireGrad();
        return gradients([embedding(leaf, i, { paddingIndex: 3 })], [leaf], {
          gradients: [g],
        })[0] as Tensor;
      },
      [u],
      { rest: [index], factor: 3 },
    );
  });

  test('gradients along any axis, of strided tensors', () => {
    const index = below(5, [4, 3]);
    const u = { values: random.normal(16 * 12 * 6), shape: [6, 3, 4, 16] };
    compareDevices(
      (g, i) => {
        const leaf = zeros([16, 5, 6], { dtype: g.dtype, device: g.device }).requireGrad();
        const y = indexSelect(leaf, 1, i);
        return gradients([y], [leaf], { gradients: [permute(g, [3, 2, 1, 0])] })[0] as Tensor;
      },
      [u],
      { rest: [index], factor: 3 },
    );
  });

  test('an index out of range gives NaN, and is left out of sums', () => {
    const on = device('cuda');
    const bad = tensorOf([1, 7, -1, 0], [4], 'i32').to(on);
    const x = tensorOf([1, 2, 3], [3], 'f32').to(on);
    const nan = Number.NaN;
    expect([...values(gather(x, 0, bad))]).toEqual([2, nan, nan, 1]);
    expect([...values(indexSelect(x, 0, bad))]).toEqual([2, nan, nan, 1]);
    expect([...values(oneHot(bad, 2)).slice(0, 6)]).toEqual([0, 1, nan, nan, nan, nan]);
    const ones = tensorOf([1, 1, 1, 1], [4], 'f32').to(on);
    expect([...values(scatterAdd(x, 0, bad, ones))]).toEqual([2, 3, 3]);
  });
});
