import {
  type Activation,
  ArgumentError,
  DisposedError,
  gradients,
  matmul,
  slice,
  type Tensor,
  transpose,
} from 'longspan';
import { matmulTwin, transposedTwin } from '../reference/matmul.js';
import {
  checkAgainstTwin,
  epsilon,
  expectClose,
  expectLowPrecision,
  rounded,
  tensorOf,
  values,
} from '../support/compare.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const size = (shape: readonly number[]) => shape.reduce((n, d) => n * d, 1);
const random = (seed: number, shape: readonly number[]) => new Random(seed).normal(size(shape));
const activationNames: Activation[] = ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'reluSquared'];

/** a b in float64 with inputs rounded to `dtype`, f32 sums in the order of k, result rounded. */
function naive(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  [m, k, n]: readonly [number, number, number],
  dtype: 'bf16' | 'f16' | 'f32',
): Float64Array {
  const [x, y] = [rounded(a, dtype), rounded(b, dtype)];
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) {
        sum = Math.fround(sum + Math.fround((x[i * k + p] as number) * (y[p * n + j] as number)));
      }
      out[i * n + j] = sum;
    }
  }
  return rounded(out, dtype);
}

describe('against the float64 twin', () => {
  // Ugly lengths; every path: thin sides, edges of tiles and of blocks, several slices and several parts of K.
  test.each([
    [
      [1, 1],
      [1, 1],
    ],
    [
      [113, 203],
      [203, 67],
    ],
    [
      [1, 239],
      [239, 1],
    ],
    [
      [1, 239],
      [239, 300],
    ],
    [
      [5, 61],
      [61, 33],
    ],
    [
      [799, 3],
      [3, 5],
    ],
    [
      [33, 700],
      [700, 17],
    ],
    [
      [300, 20],
      [20, 530],
    ],
    [
      [70, 2600],
      [2600, 50],
    ],
    [
      [2, 30, 1500],
      [1500, 9],
    ],
    [
      [2, 3, 7, 19],
      [2, 3, 19, 65],
    ],
    [
      [2, 1, 7, 19],
      [3, 19, 30],
    ],
    [
      [4, 9, 21],
      [21, 70],
    ],
    [
      [9, 21],
      [4, 21, 70],
    ],
    [
      [1, 5, 1, 37],
      [6, 1, 37, 12],
    ],
  ])('%j x %j', (shapeA, shapeB) => {
    checkAgainstTwin(
      (a, b) => matmul(a, b),
      (a, b) =>
        matmulTwin(
          { values: a as Float64Array, shape: shapeA },
          { values: b as Float64Array, shape: shapeB },
        ).values,
      [
        { values: random(1, shapeA), shape: shapeA },
        { values: random(2, shapeB), shape: shapeB },
      ],
      { f32Tolerance: 1e-5 },
    );
  });

  test.each(['f32', 'bf16', 'f16'] as const)('low precision, K = 1500, %s', (dtype) => {
    const [m, k, n] = [9, 1500, 40] as const;
    const [a, b] = [random(3, [m, k]), random(4, [k, n])];
    const exact = matmulTwin({ values: a, shape: [m, k] }, { values: b, shape: [k, n] }).values;
    const y = matmul(tensorOf(a, [m, k], dtype), tensorOf(b, [k, n], dtype));
    expectLowPrecision(y, exact, naive(a, b, [m, k, n], dtype), { dtype });
  });

  test.each(activationNames)('bias and %s', (activation) => {
    const [shapeA, shapeB] = [
      [37, 150],
      [150, 83],
    ];
    checkAgainstTwin(
      (a, b, bias) => matmul(a, b, { bias, activation }),
      (a, b, bias) =>
        matmulTwin(
          { values: a as Float64Array, shape: shapeA },
          { values: b as Float64Array, shape: shapeB },
          bias,
          activation,
        ).values,
      [
        { values: random(5, shapeA).map((x) => x / 6), shape: shapeA },
        { values: random(6, shapeB).map((x) => x / 6), shape: shapeB },
        { values: random(7, [83]), shape: [83] },
      ],
      { f32Tolerance: 5e-6 },
    );
  });
});

describe('strides', () => {
  const [m, k, n] = [45, 70, 51];
  const [a, b] = [random(8, [m, k]), random(9, [k, n])];
  const expected = matmulTwin({ values: a, shape: [m, k] }, { values: b, shape: [k, n] }).values;
  const turned = (x: Float64Array, shape: number[]) => transposedTwin({ values: x, shape }).values;

  test.each(['f64', 'f32', 'bf16', 'f16'] as const)('transposed operands, %s', (dtype) => {
    const [x, y] = [rounded(a, dtype), rounded(b, dtype)];
    const plain = values(matmul(tensorOf(x, [m, k], dtype), tensorOf(y, [k, n], dtype)));
    const at = transpose(tensorOf(turned(x, [m, k]), [k, m], dtype));
    const bt = transpose(tensorOf(turned(y, [k, n]), [n, k], dtype));
    // One chain of sums per element: where the operands lie does not change a bit.
    expect(values(matmul(at, tensorOf(y, [k, n], dtype)))).toEqual(plain);
    expect(values(matmul(tensorOf(x, [m, k], dtype), bt))).toEqual(plain);
    expect(values(matmul(at, bt))).toEqual(plain);
  });

  test.each(['f64', 'f32', 'bf16'] as const)('every second column, %s', (dtype) => {
    const spread = (x: ArrayLike<number>) =>
      Float64Array.from({ length: 2 * x.length }, (_, i) =>
        i % 2 ? Number.NaN : (x[i / 2] as number),
      );
    const gaps = (x: Float64Array, rows: number, columns: number) =>
      slice(tensorOf(spread(rounded(x, dtype)), [rows, columns, 2], dtype), 2, 0, 1);
    const x = gaps(a, m, k);
    const y = gaps(b, k, n);
    const [ga, gb] = [x.viewAs([m, k], [2 * k, 2], 0), y.viewAs([k, n], [2 * n, 2], 0)];
    const plain = matmul(tensorOf(a, [m, k], dtype), tensorOf(b, [k, n], dtype));
    expect(values(matmul(ga, gb))).toEqual(values(plain));
    if (dtype === 'f64') expectClose(plain, expected, { absolute: 1e-12 });
  });

  test('a batch whose elements overlap or run backwards', () => {
    const x = tensorOf(a, [m, k], 'f64');
    const windows = x.viewAs([3, 10, k], [k, k, 1], 0);
    const y = matmul(windows, tensorOf(b, [k, n], 'f64'));
    for (let z = 0; z < 3; z++) {
      const rows = values(y).slice(z * 10 * n, (z + 1) * 10 * n);
      expectClose(rows, expected.slice(z * n, (z + 10) * n), { absolute: 1e-12 });
    }
  });
});

describe('empty axes', () => {
  test.each([
    [
      [0, 4],
      [4, 5],
      [0, 5],
    ],
    [
      [3, 4],
      [4, 0],
      [3, 0],
    ],
    [
      [0, 3, 4],
      [4, 5],
      [0, 3, 5],
    ],
    [
      [1, 3, 4],
      [0, 4, 5],
      [0, 3, 5],
    ],
  ])('%j x %j', (shapeA, shapeB, shape) => {
    const y = matmul(
      tensorOf([...random(1, shapeA)], shapeA, 'f32'),
      tensorOf([...random(2, shapeB)], shapeB, 'f32'),
    );
    expect(y.shape).toEqual(shape);
    expect(y.dataSync()).toHaveLength(0);
  });

  test.each(['f32', 'bf16'] as const)('K = 0 leaves the bias, %s', (dtype) => {
    const bias = tensorOf([1, -2, 3], [3], dtype);
    const y = matmul(tensorOf([], [2, 0], dtype), tensorOf([], [0, 3], dtype), {
      bias,
      activation: 'relu',
    });
    expect(Array.from(values(y))).toEqual([1, 0, 3, 1, 0, 3]);
  });

  test('gradients of empty sums are zeros', () => {
    const a = tensorOf([], [0, 4], 'f32').requireGrad();
    const b = tensorOf(random(1, [4, 5]), [4, 5], 'f32').requireGrad();
    const y = matmul(a, b);
    y.backward({ gradient: tensorOf([], [0, 5], 'f32') });
    expect(a.grad?.shape).toEqual([0, 4]);
    expect(Array.from(values(b.grad as Tensor))).toEqual(new Array(20).fill(0));
  });
});

describe('gradients', () => {
  test.each([
    [
      [5, 7],
      [7, 3],
    ],
    [
      [2, 5, 7],
      [7, 3],
    ],
    [
      [5, 7],
      [2, 7, 3],
    ],
    [
      [2, 1, 5, 4],
      [3, 4, 6],
    ],
    [
      [1, 5, 4],
      [3, 4, 6],
    ],
    [
      [3, 2, 5, 4],
      [1, 1, 4, 6],
    ],
    [
      [1, 1, 2, 3],
      [3, 2],
    ],
  ])('against finite differences, %j x %j', async (shapeA, shapeB) => {
    await checkGradients(
      (a, b) => matmul(a, b),
      [tensorOf(random(1, shapeA), shapeA, 'f64'), tensorOf(random(2, shapeB), shapeB, 'f64')],
    );
  });

  test.each(activationNames)('of bias and %s', async (activation) => {
    await checkGradients(
      (a, b, bias) => matmul(a, b, { bias, activation }),
      [
        tensorOf(random(3, [2, 4, 3]), [2, 4, 3], 'f64'),
        tensorOf(random(4, [3, 5]), [3, 5], 'f64'),
        tensorOf(random(5, [5]), [5], 'f64'),
      ],
    );
    await checkGradients(
      (a, b) => matmul(a, b, { activation }),
      [
        tensorOf(random(6, [4, 3]), [4, 3], 'f64'),
        tensorOf(random(7, [2, 3, 5]), [2, 3, 5], 'f64'),
      ],
    );
  });

  test('through transposed views', async () => {
    await checkGradients(
      (a, b) => matmul(transpose(a), transpose(b)),
      [
        tensorOf(random(1, [2, 7, 5]), [2, 7, 5], 'f64'),
        tensorOf(random(2, [3, 7]), [3, 7], 'f64'),
      ],
    );
  });

  test('a strided upstream gradient', async () => {
    await checkGradients(
      (a, b, bias) => transpose(matmul(a, b, { bias, activation: 'silu' })),
      [
        tensorOf(random(1, [4, 3]), [4, 3], 'f64'),
        tensorOf(random(2, [3, 6]), [3, 6], 'f64'),
        tensorOf(random(3, [6]), [6], 'f64'),
      ],
    );
  });

  test('gradients of gradients', () => {
    // y_z = a b_z, so d sum(u y)/da = sum over z of u_z b_z^T =: g; s = sum(v g) has
    // ds/db_z = v^T u_z and ds/du_z = v b_z.
    for (const shapeA of [
      [3, 4],
      [1, 3, 4],
    ]) {
      const [a, v] = [random(7, shapeA), random(8, shapeA)];
      const [b, u] = [random(9, [2, 4, 5]), random(10, [2, 3, 5])];
      const ta = tensorOf(a, shapeA, 'f64').requireGrad();
      const tb = tensorOf(b, [2, 4, 5], 'f64').requireGrad();
      const tu = tensorOf(u, [2, 3, 5], 'f64').requireGrad();
      const [g] = gradients([matmul(ta, tb)], [ta], { gradients: [tu], createGraph: true });
      const [gb, gu] = gradients([g as Tensor], [tb, tu], {
        gradients: [tensorOf(v, shapeA, 'f64')],
      });
      const mv = { values: v, shape: [3, 4] };
      expectClose(
        gb as Tensor,
        matmulTwin(transposedTwin(mv), { values: u, shape: [2, 3, 5] }).values,
        { absolute: 1e-12 },
      );
      expectClose(gu as Tensor, matmulTwin(mv, { values: b, shape: [2, 4, 5] }).values, {
        absolute: 1e-12,
      });
    }
  });

  test('gradients of gradients, the other operand broadcast', () => {
    const [a, u] = [random(7, [2, 3, 4]), random(8, [2, 3, 5])];
    const [b, v] = [random(9, [4, 5]), random(10, [4, 5])];
    const ta = tensorOf(a, [2, 3, 4], 'f64').requireGrad();
    const tb = tensorOf(b, [4, 5], 'f64').requireGrad();
    const tu = tensorOf(u, [2, 3, 5], 'f64').requireGrad();
    const [g] = gradients([matmul(ta, tb)], [tb], { gradients: [tu], createGraph: true });
    const [ga, gu] = gradients([g as Tensor], [ta, tu], {
      gradients: [tensorOf(v, [4, 5], 'f64')],
    });
    const mv = { values: v, shape: [4, 5] };
    expectClose(
      ga as Tensor,
      matmulTwin({ values: u, shape: [2, 3, 5] }, transposedTwin(mv)).values,
      { absolute: 1e-12 },
    );
    expectClose(gu as Tensor, matmulTwin({ values: a, shape: [2, 3, 4] }, mv).values, {
      absolute: 1e-12,
    });
  });

  test.each(['f32', 'bf16', 'f16'] as const)('in %s against the twin', (dtype) => {
    const [m, k, n] = [65, 90, 40] as const;
    const [a, b, g] = [random(1, [m, k]), random(2, [k, n]), random(3, [m, n])];
    const x = tensorOf(a, [m, k], dtype).requireGrad();
    const y = tensorOf(b, [k, n], dtype).requireGrad();
    matmul(x, y).backward({ gradient: tensorOf(g, [m, n], dtype) });
    const bt = transposedTwin({ values: b, shape: [k, n] });
    const at = transposedTwin({ values: a, shape: [m, k] });
    const options = { dtype, factor: 3 } as const;
    const gradA = matmulTwin({ values: g, shape: [m, n] }, bt).values;
    expectLowPrecision(x.grad as Tensor, gradA, naive(g, bt.values, [m, n, k], dtype), options);
    const gradB = matmulTwin(at, { values: g, shape: [m, n] }).values;
    expectLowPrecision(y.grad as Tensor, gradB, naive(at.values, g, [k, m, n], dtype), options);
  });

  test.each(['bf16', 'f16'] as const)(
    'the bias gradient of many rows is summed in f32, %s',
    (dtype) => {
      const rows = 5000;
      const bias = tensorOf([0, 0], [2], dtype).requireGrad();
      const y = matmul(
        tensorOf(new Array(rows).fill(0), [rows, 1], dtype),
        tensorOf([0, 0], [1, 2], dtype),
        { bias },
      );
      y.backward({ gradient: tensorOf(new Array(2 * rows).fill(1), [rows, 2], dtype) });
      expectClose(bias.grad as Tensor, [rows, rows], { relative: epsilon[dtype] });
    },
  );
});

test('non-finite values go where they belong', () => {
  const a = tensorOf([1, Number.POSITIVE_INFINITY, 0, 2, 3, Number.NaN], [3, 2], 'f32');
  const y = Array.from(values(matmul(a, tensorOf([1, 2, 3, 4], [2, 2], 'f32'))));
  expect(y).toEqual([Infinity, Infinity, 6, 8, Number.NaN, Number.NaN]);
});

describe('allowTf32', () => {
  test('changes nothing on the CPU', () => {
    const [a, b] = [
      tensorOf(random(1, [5, 7]), [5, 7], 'f32'),
      tensorOf(random(2, [7, 6]), [7, 6], 'f32'),
    ];
    expect(values(matmul(a, b, { allowTf32: true }))).toEqual(values(matmul(a, b)));
  });
});

describe('errors', () => {
  const f32 = (...shape: number[]) => tensorOf(new Array(size(shape)).fill(0), shape, 'f32');
  const failure = (run: () => unknown): ArgumentError => {
    try {
      run();
    } catch (error) {
      return error as ArgumentError;
    }
    throw new Error('nothing was thrown');
  };

  test.each([
    ['vector', () => matmul(f32(3), f32(3, 2)), 'ERR_RANK', 'a', 'unsqueeze'],
    ['vector on the right', () => matmul(f32(2, 3), f32(3)), 'ERR_RANK', 'b', 'unsqueeze'],
    ['inner lengths', () => matmul(f32(2, 3), f32(4, 2)), 'ERR_SHAPE', 'b', 'f32[2, 3]'],
    ['batch axes', () => matmul(f32(2, 2, 3), f32(3, 3, 2)), 'ERR_SHAPE', 'b', 'broadcast'],
    [
      'dtypes',
      () => matmul(f32(2, 3), tensorOf([0, 0, 0], [3, 1], 'bf16')),
      'ERR_DTYPE',
      'b',
      'to(dtype)',
    ],
    ['integers', () => matmul(tensorOf([1], [1, 1], 'i32'), f32(1, 1)), 'ERR_DTYPE', 'a', 'f32'],
    ['bias', () => matmul(f32(2, 3), f32(3, 2), { bias: f32(3) }), 'ERR_SHAPE', 'bias', '[2]'],
    [
      'bias rank',
      () => matmul(f32(2, 3), f32(3, 2), { bias: f32(1, 2) }),
      'ERR_SHAPE',
      'bias',
      '[2]',
    ],
    [
      'activation',
      () => matmul(f32(1, 1), f32(1, 1), { activation: 'gelo' as Activation }),
      'ERR_OPTION',
      'activation',
      "'gelu'",
    ],
    [
      'option',
      () => matmul(f32(1, 1), f32(1, 1), { biass: null } as object),
      'ERR_OPTION',
      'biass',
      "'bias'",
    ],
  ] as const)('%s', (_, run, code, argument, remedy) => {
    const error = failure(run);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error).toMatchObject({ code, operator: 'matmul', argument });
    expect(error.message).toContain(`'${argument}'`);
    expect(`${error.message} ${error.remedy}`).toContain(remedy);
  });

  test('disposed operands', () => {
    const a = f32(2, 2);
    a.dispose();
    expect(() => matmul(a, f32(2, 2))).toThrow(DisposedError);
    expect(() => matmul(f32(2, 2), a)).toThrow("'b'");
  });
});
