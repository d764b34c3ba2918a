import {
  concat,
  embedding,
  expand,
  flip,
  gather,
  gradients,
  indexSelect,
  mul,
  OperatorError,
  oneHot,
  permute,
  repeat,
  scatterAdd,
  setNumThreads,
  stack,
  sum,
  type Tensor,
  tensor,
  tile,
  transpose,
  tril,
  triu,
  zeros,
} from 'longspan';
import { indexOf, placeOf, sizeOf } from '../reference/broadcast.js';
import { checkAgainstTwin, expectClose, rounded, tensorOf, values } from '../support/compare.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const ids = (list: readonly number[], shape = [list.length]) =>
  tensor(Int32Array.from(list), { shape });

async function failure(t: Tensor): Promise<OperatorError> {
  const error: unknown = await t.data().then(
    () => null,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(OperatorError);
  return error as OperatorError;
}

describe('gather and scatterAdd', () => {
  const cases: [number[], number, number[]][] = [
    [[6], 0, [9]],
    [[3, 5], 1, [3, 2]],
    [[4, 5], 0, [7, 3]],
    [[2, 3, 4], 1, [2, 5, 4]],
    [[3, 4], 1, [3, 0]],
  ];
  const gathered = (
    x: ArrayLike<number>,
    shape: number[],
    axis: number,
    index: ArrayLike<number>,
    indexShape: number[],
  ) =>
    Float64Array.from({ length: sizeOf(indexShape) }, (_, i) => {
      const at = indexOf(i, indexShape);
      at[axis] = index[i] as number;
      return x[placeOf(at, shape)] as number;
    });
  const scattered = (
    x: Float64Array,
    shape: number[],
    axis: number,
    index: ArrayLike<number>,
    indexShape: number[],
    source: ArrayLike<number>,
  ) => {
    const y = x.slice();
    for (let i = 0; i < sizeOf(indexShape); i++) {
      const at = indexOf(i, indexShape);
      at[axis] = index[i] as number;
      y[placeOf(at, shape)] = (y[placeOf(at, shape)] as number) + (source[i] as number);
    }
    return y;
  };

  test.each(cases)('%j along %i at %j', async (shape, axis, indexShape) => {
    const random = new Random(3);
    const index = random.integers(sizeOf(indexShape), 0, shape[axis] as number);
    const at = tensorOf(index, indexShape, 'i32');
    const x = { values: random.normal(sizeOf(shape)), shape };
    const source = { values: random.normal(sizeOf(indexShape)), shape: indexShape };
    checkAgainstTwin(
      (t) => gather(t, axis, at),
      (v) => gathered(v, shape, axis, index, indexShape),
      [x],
    );
    checkAgainstTwin(
      (t, s) => scatterAdd(t, axis, at, s),
      (v, s) => scattered(v, shape, axis, index, indexShape, s),
      [x, source],
      { f32Tolerance: 3e-7 },
    );
    const wide = [tensorOf(x.values, shape, 'f64'), tensorOf(source.values, indexShape, 'f64')] as [
      Tensor,
      Tensor,
    ];
    if (sizeOf(indexShape) > 0) {
      await checkGradients((t) => gather(t, axis, at), [wide[0]]);
      await checkGradients((t, s) => scatterAdd(t, axis, at, s), wide);
    }
  });

  // What large operands are divided by: columns of whole rows, lines, places of a long line.
  test.each([
    ['whole rows', [70, 200], 0, [250, 200], 1],
    ['nearly whole rows', [70, 200], 0, [250, 200], 2],
    ['narrow rows', [400, 7], 0, [6000, 7], 1],
    ['planes', [2, 30, 90], 1, [2, 250, 90], 1],
    ['long lines', [25, 900], 1, [25, 2000], 0],
    ['one line', [1000], 0, [50_000], 0],
  ] as [string, number[], number, number[], number][])(
    '%s, however many threads',
    (_, shape, axis, indexShape, rows) => {
      const random = new Random(4);
      const width = indexShape.at(-1) as number;
      const drawn = random.integers(sizeOf(indexShape), 0, shape[axis] as number);
      // One index along each row; where rows is 2 its last element has another.
      const index = drawn.map((own, i) => {
        if (rows === 0 || (rows === 2 && i % width === width - 1)) return own;
        return drawn[i - (i % width)] as number;
      });
      const at = tensorOf(index, indexShape, 'i32');
      const x = random.normal(sizeOf(shape));
      const source = random.normal(sizeOf(indexShape));
      for (const dtype of ['f32', 'bf16', 'f64'] as const) {
        const [narrow, added] = [rounded(x, dtype), rounded(source, dtype)];
        const run = () => {
          const t = tensorOf(x, shape, dtype);
          const y = scatterAdd(t, axis, at, tensorOf(source, indexShape, dtype));
          return [values(y), values(gather(t, axis, at))] as const;
        };
        setNumThreads(1);
        const [sums, moved] = run();
        const expected = scattered(narrow, shape, axis, index, indexShape, added);
        expectClose(sums, expected, {
          absolute: { f32: 1e-4, bf16: 1e-4, f64: 1e-12 }[dtype],
          relative: dtype === 'bf16' ? 2 ** -8 : 0,
        });
        expectClose(moved, gathered(narrow, shape, axis, index, indexShape), {});
        setNumThreads(1 << 10); // all there are
        const [again, movedAgain] = run();
        expectClose(again, sums, {});
        expectClose(movedAgain, moved, {});
      }
    },
  );

  test('the first index out of range is reported, in rows and in parts', async () => {
    const row = expand(tensor(Int32Array.of(0, 3, 1, -2), { shape: [4, 1] }), [4, 100]);
    const refused = /index: 3 at position \[1, 0\]/;
    expect((await failure(gather(zeros([3, 100]), 0, row))).message).toMatch(refused);
    const rows = zeros([4, 100]);
    expect((await failure(scatterAdd(zeros([3, 100]), 0, row, rows))).message).toMatch(refused);
    const line = new Int32Array(100_000);
    line[70_000] = 5000;
    line[90_000] = -1;
    const long = scatterAdd(zeros([5000]), 0, tensor(line), zeros([100_000]));
    expect((await failure(long)).message).toContain('index: 5000 at position [70000]');
  });

  test('take strided operands', () => {
    const x = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const index = transpose(ids([1, 0, 0, 1, 1, 1], [2, 3]));
    expect([...values(gather(transpose(x), 1, index))]).toEqual([4, 4, 2, 5, 3, 6]);
    expect([...values(scatterAdd(transpose(zeros([2, 3])), 1, index, transpose(x)))]).toEqual([
      0, 5, 2, 5, 3, 6,
    ]);
  });

  test('repeated places add up in f32 for narrow types', () => {
    const y = scatterAdd(
      zeros([2], { dtype: 'bf16' }),
      0,
      ids(new Array(1000).fill(1)),
      tensorOf(new Float64Array(1000).fill(1), [1000], 'bf16'),
    );
    expect([...values(y)]).toEqual([0, 1000]);
  });

  test('an index out of range fails with operator, index, place and range', async () => {
    const x = tensor([
      [1, 2],
      [3, 4],
    ]);
    const error = await failure(gather(x, 1, ids([0, 0, 1, 7], [2, 2])));
    expect(error.message).toBe(
      'gather failed: index: 7 at position [1, 1]. Indices along this axis go from 0 to 1',
    );
    expect(error.operator).toBe('gather');
    const late = scatterAdd(x, 0, ids([0, -1], [1, 2]), tensor([[1, 1]]));
    expect((await failure(mul(late, 2))).message).toContain(
      'scatterAdd failed: index: -1 at position [0, 1]',
    );
    expect(() => gather(x, 0, ids([0]))).toThrow("'index' is i32[1]. It must have 2 axes");
    expect(() => gather(x, 0, tensor([[0]]))).toThrow('Use i32');
    expect(() => gather(x, 0, ids([0, 0, 0], [1, 3]))).toThrow('must not be longer');
    expect(() => scatterAdd(x, 0, ids([0, 0], [1, 2]), tensor([1]))).toThrow(
      "must have the shape of 'index'",
    );
  });
});

describe('indexSelect and embedding', () => {
  test.each([
    [[5, 3], 0, [4]],
    [[2, 5, 3], 1, [2, 3]],
    [[3, 300], 1, [7]],
    [[5], 0, []],
    [[5, 3], 0, [0]],
  ] as [number[], number, number[]][])('%j along %i by ids %j', async (shape, axis, idShape) => {
    const random = new Random(4);
    const list = random.integers(sizeOf(idShape), 0, shape[axis] as number);
    const at = tensorOf(list, idShape, 'i32');
    const result = [...shape.slice(0, axis), ...idShape, ...shape.slice(axis + 1)];
    const twin = (x: Float64Array) =>
      Float64Array.from({ length: sizeOf(result) }, (_, i) => {
        const where = indexOf(i, result);
        const id = list[placeOf(where.slice(axis, axis + idShape.length), idShape)] as number;
        return x[
          placeOf([...where.slice(0, axis), id, ...where.slice(axis + idShape.length)], shape)
        ] as number;
      });
    const x = random.normal(sizeOf(shape));
    checkAgainstTwin((t) => indexSelect(t, axis, at), twin, [{ values: x, shape }]);
    expect(indexSelect(tensorOf(x, shape, 'f32'), axis, at).shape).toEqual(result);
    if (sizeOf(idShape) === 0) return;
    await checkGradients((t) => indexSelect(t, axis, at), [tensorOf(x, shape, 'f64')], {
      elements: 30,
    });
    const order = shape.map((_, i) => shape.length - 1 - i);
    const back = (t: Tensor) => permute(t, order);
    await checkGradients(
      (t) => indexSelect(back(t), axis, at),
      [back(tensorOf(x, shape, 'f64')).contiguous()],
      { elements: 30 },
    );
    await checkGradients(
      (t) =>
        mul(
          permute(
            indexSelect(t, axis, at),
            result.map((_, i) => result.length - 1 - i),
          ),
          2,
        ),
      [tensorOf(x, shape, 'f64')],
      { elements: 30 },
    );
  });

  test('rows that are read often get an accurate gradient, in every dtype', () => {
    const count = 3000;
    const random = new Random(5);
    const list = random.integers(count, 0, 7);
    const up = random.normal(count * 5);
    for (const dtype of ['f32', 'bf16', 'f64'] as const) {
      const narrow = rounded(up, dtype);
      const exact = new Float64Array(7 * 5);
      list.forEach((id, i) => {
        for (let c = 0; c < 5; c++)
          exact[id * 5 + c] = (exact[id * 5 + c] as number) + (narrow[i * 5 + c] as number);
      });
      const weight = zeros([7, 5], { dtype }).requireGrad();
      embedding(weight, tensor(list)).backward({ gradient: tensorOf(up, [count, 5], dtype) });
      expectClose(weight.grad as Tensor, exact, {
        relative: dtype === 'bf16' ? 2 ** -8 : 1e-6,
        absolute: 4e-6,
      });
    }
  });

  test('paddingIndex gets no gradient, also in the second order', async () => {
    const weight = tensorOf(new Random(6).normal(12), [4, 3], 'f64').requireGrad();
    const at = ids([1, 0, 1, 3], [2, 2]);
    sum(embedding(weight, at, { paddingIndex: 1 })).backward();
    expect([...values(weight.grad as Tensor)]).toEqual([1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    await checkGradients(
      (t) => {
        const leaf = t.requiresGrad ? t : t.detach().requireGrad();
        const y = embedding(leaf, at, { paddingIndex: 1 });
        const [g] = gradients([sum(mul(y, mul(y, y)))], [leaf], { createGraph: true });
        return g as Tensor;
      },
      [tensorOf(new Random(7).normal(12), [4, 3], 'f64')],
      { tolerance: 1e-6 },
    );
  });

  test('ids out of range fail, and bad arguments are refused', async () => {
    const table = zeros([4, 3]);
    expect((await failure(embedding(table, ids([0, 4])))).message).toBe(
      'embedding failed: ids: 4 at position [1]. Indices along this axis go from 0 to 3',
    );
    expect(() => embedding(table, tensor([1]))).toThrow("'ids' is f32[1]. Use i32");
    expect(() => embedding(zeros([3]), ids([0]))).toThrow("'weight' is f32[3]");
    expect(() => embedding(table, ids([0]), { paddingIndex: 4 })).toThrow('from 0 to 3');
    expect(() => embedding(table, ids([0]), { paddingIdx: 0 } as object)).toThrow(
      "Did you mean 'paddingIndex'",
    );
    expect(() => indexSelect(table, 2, ids([0]))).toThrow('Use an axis');
  });
});

describe('concat, stack, repeat, tile, expand, flip', () => {
  test('concat joins along any axis, strided and empty parts included', () => {
    const a = tensor([
      [1, 2],
      [3, 4],
    ]);
    expect([...values(concat([a, transpose(a)], 1))]).toEqual([1, 2, 1, 3, 3, 4, 2, 4]);
    expect([...values(concat([a, zeros([0, 2]), a], 0))]).toEqual([1, 2, 3, 4, 1, 2, 3, 4]);
    expect([...values(stack([a, a], -1))]).toEqual([1, 1, 2, 2, 3, 3, 4, 4]);
    expect([...concat([ids([1]), ids([2, 3])]).dataSync()]).toEqual([1, 2, 3]);
    expect(() => concat([a, tensor([1])])).toThrow("'tensors[1]' is f32[1]");
    expect(() => concat([a, zeros([2, 3])])).toThrow('Beside axis 0');
    expect(() => concat([a, ids([1, 2], [1, 2])])).toThrow("the dtype of 'tensors[0]'");
    expect(() => concat([])).toThrow('at least one tensor');
  });

  test('repeat, tile and flip follow NumPy', () => {
    const a = tensor([
      [1, 2],
      [3, 4],
    ]);
    expect([...values(repeat(a, 2, 1))]).toEqual([1, 1, 2, 2, 3, 3, 4, 4]);
    expect([...values(repeat(a, 2, 0))]).toEqual([1, 2, 1, 2, 3, 4, 3, 4]);
    expect([...values(tile(a, [1, 2]))]).toEqual([1, 2, 1, 2, 3, 4, 3, 4]);
    expect(tile(a, [2, 1, 3]).shape).toEqual([2, 2, 6]);
    expect([...values(flip(a, 0))]).toEqual([3, 4, 1, 2]);
    expect([...values(flip(transpose(a), 1))]).toEqual([3, 1, 4, 2]);
    expect(flip(zeros([0]), 0).shape).toEqual([0]);
    expect([...values(expand(tensor([[1], [2]]), [2, -1, 3]))]).toEqual([
      1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2,
    ]);
    expect(() => expand(a, [3, 2])).toThrow('must broadcast');
    expect(() => tile(a, [2])).toThrow('one count for each');
    expect(() => repeat(a, 1.5, 0)).toThrow('Use whole numbers');
  });

  test('have the gradients of finite differences', async () => {
    const [a, b] = [1, 2].map((seed) => tensorOf(new Random(seed).normal(6), [2, 3], 'f64')) as [
      Tensor,
      Tensor,
    ];
    await checkGradients((x, y) => concat([x, y, x], 1), [a, b]);
    await checkGradients((x, y) => stack([x, y], 1), [a, b]);
    await checkGradients((x) => repeat(x, 3, 0), [a]);
    await checkGradients((x) => tile(x, [2, 1, 2]), [a]);
    await checkGradients((x) => expand(x, [4, 2, 3]), [a]);
    await checkGradients((x) => mul(flip(x, 1), x), [a]);
  });
});

test('oneHot', async () => {
  expect([...values(oneHot(ids([2, 0]), 3))]).toEqual([0, 0, 1, 1, 0, 0]);
  const y = oneHot(transpose(ids([0, 1, 2, 3], [2, 2])), 4, { dtype: 'bf16' });
  expect(y.shape).toEqual([2, 2, 4]);
  expect([...values(y)]).toEqual([1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
  expect((await failure(oneHot(ids([3]), 3))).message).toContain(
    'oneHot failed: ids: 3 at position [0]',
  );
  expect(() => oneHot(ids([0]), 0)).toThrow("'classes' is 0");
  expect(() => oneHot(ids([0]), 2, { dtype: 'f8' as 'f32' })).toThrow("Use 'f32'");
});

test('triangles', async () => {
  const x = tensorOf(new Random(8).normal(2 * 3 * 5), [2, 3, 5], 'f64');
  for (const diagonal of [-4, -1, 0, 2, 9]) {
    const kept = (lower: boolean) =>
      values(x).map((v, i) => {
        const distance = (i % 5) - (Math.floor(i / 5) % 3);
        return (lower ? distance <= diagonal : distance >= diagonal) ? v : 0;
      });
    expect([...values(tril(x, diagonal))]).toEqual([...kept(true)]);
    expect([...values(triu(x, diagonal))]).toEqual([...kept(false)]);
    await checkGradients((t) => tril(transpose(t), diagonal), [x]);
    await checkGradients((t) => triu(t, diagonal), [x]);
  }
  expect(() => tril(tensor([1]))).toThrow('at least 2 axes');
});
