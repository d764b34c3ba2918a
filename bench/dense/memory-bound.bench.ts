/** Operators whose time is that of their bytes. */
import {
  AdamW,
  add,
  argmax,
  categorical,
  embedding,
  expand,
  gather,
  gelu,
  layerNorm,
  normal,
  ones,
  randint,
  reshape,
  scatterAdd,
  softmax,
  sort,
  sum,
  type Tensor,
  topK,
  zeros,
} from 'longspan';
import { type BenchCase, type BenchContext, defineBench } from '../harness/case.js';

/** Bytes of an element. */
const sizes = { f32: 4, bf16: 2 };
type Precision = keyof typeof sizes;

function over(
  { device }: BenchContext,
  operator: string,
  [rows, columns]: readonly [number, number],
  passes: number,
  call: (x: Tensor) => Tensor,
  dtype: Precision = 'f32',
): BenchCase {
  return {
    operator,
    shape: `${dtype} ${rows} x ${columns}`,
    bytes: passes * sizes[dtype] * rows * columns,
    prepare() {
      const x = normal([rows, columns], { device, dtype });
      return {
        run: () => call(x).dispose(),
        dispose: () => x.dispose(),
      };
    },
  };
}

/** One AdamW step over a matrix: parameter, gradient and two moments read, all but the gradient written. */
function adam({ device }: BenchContext, [rows, columns]: readonly [number, number]): BenchCase {
  return {
    operator: 'AdamW step',
    shape: `f32 ${rows} x ${columns}`,
    bytes: 7 * 4 * rows * columns,
    prepare() {
      const x = normal([rows, columns], { device }).requireGrad();
      x.grad = normal([rows, columns], { device });
      const optimizer = new AdamW([x], { lr: 1e-3 });
      return {
        run: () => optimizer.step(),
        dispose: () => [x, x.grad].forEach((t) => void t?.dispose()),
      };
    },
  };
}

/** A copy as large as those of other libraries that it is compared with. */
function copyOf({ device }: BenchContext, mebibytes: number): BenchCase {
  return {
    operator: 'copy',
    shape: `f32 ${mebibytes} MiB`,
    bytes: 2 * mebibytes * 2 ** 20,
    prepare() {
      const x = normal([mebibytes << 18], { device });
      return { run: () => x.clone().dispose(), dispose: () => x.dispose() };
    },
  };
}

/** Values and indices; keeps one of the two. */
function first({ values, indices }: { values: Tensor; indices: Tensor }): Tensor {
  indices.dispose();
  return values;
}

interface Indexed {
  table: Tensor;
  ids: Tensor;
  /** The same id along each row. */
  index: Tensor;
  rows: Tensor;
}

/** Rows of a table by ids, and sums back into it. */
function indexed(
  { device }: BenchContext,
  operator: string,
  [vocabulary, count, width]: readonly [number, number, number],
  bytes: number,
  call: (operands: Indexed) => Tensor,
): BenchCase {
  return {
    operator,
    shape: `f32 ${count} of ${vocabulary} x ${width}`,
    bytes,
    prepare() {
      const ids = randint([count], 0, vocabulary, { device });
      const operands: Indexed = {
        table: normal([vocabulary, width], { device }),
        ids,
        index: expand(reshape(ids, [count, 1]), [count, width]),
        rows: normal([count, width], { device }),
      };
      return {
        run: () => call(operands).dispose(),
        dispose: () => Object.values(operands).forEach((t: Tensor) => void t.dispose()),
      };
    },
  };
}

/** What indexing must move: rows in and out, an index for each element where there is one, and tables. */
function indexing(
  context: BenchContext,
  [vocabulary, count, width]: readonly [number, number, number],
): BenchCase[] {
  const all = [vocabulary, count, width] as const;
  const few = [1024, count, width] as const;
  const bytes = 4 * count * width;
  return [
    indexed(context, 'embedding', all, 2 * bytes, (x) => embedding(x.table, x.ids)),
    indexed(context, 'gather', all, 3 * bytes, (x) => gather(x.table, 0, x.index)),
    indexed(context, 'scatterAdd', few, 2 * bytes + 2 * 4 * few[0] * width, (x) =>
      scatterAdd(x.table, 0, x.index, x.rows),
    ),
  ];
}

/** Beside the processor's caches, and on a GPU beside its L2 of up to 50 MB. */
interface Shapes {
  matrix: readonly [number, number];
  wide: readonly [number, number];
  classes: number;
  step: readonly [number, number];
  indices: readonly [vocabulary: number, count: number, width: number];
  mebibytes: number;
}

function shapesOf({ device, smoke }: BenchContext): Shapes {
  if (smoke) {
    return {
      ...{ matrix: [8, 64], wide: [4, 96], classes: 64, step: [8, 16] },
      ...{ indices: [32, 16, 8], mebibytes: 1 },
    };
  }
  const classes = 50_000;
  if (device.type === 'cpu') {
    return {
      ...{ matrix: [8192, 1024], wide: [1024, 8192], classes, step: [4096, 1024] },
      ...{ indices: [32_000, 8192, 512], mebibytes: 0 },
    };
  }
  return {
    ...{ matrix: [65_536, 1024], wide: [8192, 8192], classes, step: [16_384, 4096] },
    ...{ indices: [50_257, 65_536, 768], mebibytes: 1024 },
  };
}

export default defineBench({
  name: 'memory-bound',
  cases(context) {
    const { device } = context;
    const { matrix, wide, classes, step, indices, mebibytes } = shapesOf(context);
    const parts = (dtype: Precision) => {
      const weight = ones([matrix[1]], { device, dtype });
      const bias = zeros([matrix[1]], { device, dtype });
      return [
        over(context, 'add', matrix, 3, (x) => add(x, x), dtype),
        over(context, 'gelu', matrix, 2, (x) => gelu(x), dtype),
        over(context, 'softmax', matrix, 2, (x) => softmax(x, -1), dtype),
        over(context, 'layerNorm', matrix, 2, (x) => layerNorm(x, weight, bias), dtype),
      ];
    };
    return [
      ...(mebibytes > 0 ? [copyOf(context, mebibytes)] : []),
      ...parts('f32'),
      ...(device.type === 'cuda' ? parts('bf16') : []),
      over(context, 'sum of rows', matrix, 1, (x) => sum(x, 1)),
      over(context, 'sum of columns', matrix, 1, (x) => sum(x, 0)),
      over(context, 'argmax', matrix, 1, (x) => argmax(x, 1)),
      over(context, 'topK of 8', wide, 1, (x) => first(topK(x, 8))),
      over(context, 'sort', wide, 3, (x) => first(sort(x))),
      over(context, 'top-p sample', [1, classes], 1, (x) => categorical(x, { topP: 0.9 })),
      ...indexing(context, indices),
      adam(context, step),
    ];
  },
});
