/** Operators whose time is that of their bytes. */
import {
  AdamW,
  add,
  argmax,
  categorical,
  device,
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
import { type BenchCase, defineBench } from '../harness/case.js';

function over(
  operator: string,
  rows: number,
  columns: number,
  passes: number,
  call: (x: Tensor) => Tensor,
): BenchCase {
  return {
    operator,
    shape: `f32 ${rows} x ${columns}`,
    bytes: passes * 4 * rows * columns,
    prepare() {
      const x = normal([rows, columns]);
      return {
        run: () => call(x).dispose(),
        finish: () => device('cpu').synchronize(),
        dispose: () => x.dispose(),
      };
    },
  };
}

/** One AdamW step over a matrix: parameter, gradient and two moments read, all but the gradient written. */
function adam(rows: number, columns: number): BenchCase {
  return {
    operator: 'AdamW step',
    shape: `f32 ${rows} x ${columns}`,
    bytes: 7 * 4 * rows * columns,
    prepare() {
      const x = normal([rows, columns]).requireGrad();
      x.grad = normal([rows, columns]);
      const optimizer = new AdamW([x], { lr: 1e-3 });
      return {
        run: () => optimizer.step(),
        finish: () => device('cpu').synchronize(),
        dispose: () => [x, x.grad].forEach((t) => void t?.dispose()),
      };
    },
  };
}

/** Values and indices; keeps one of the two. */
function first({ values, indices }: { values: Tensor; indices: Tensor }): Tensor {
  indices.dispose();
  return values;
}

/** The same id along a row. */
const along = (ids: Tensor, width: number) =>
  expand(reshape(ids, [ids.size, 1]), [ids.size, width]);

function gatherRows(table: Tensor, ids: Tensor): Tensor {
  const index = along(ids, table.dim(1));
  const y = gather(table, 0, index);
  index.dispose();
  return y;
}

function scatterRows(ids: Tensor, rows: Tensor): Tensor {
  const target = zeros([1024, rows.dim(1)]);
  const index = along(ids, rows.dim(1));
  const y = scatterAdd(target, 0, index, rows);
  for (const t of [target, index]) t.dispose();
  return y;
}

/** Rows of a table by ids, and sums back into it. */
function indexed(
  operator: string,
  passes: number,
  call: (table: Tensor, ids: Tensor, rows: Tensor) => Tensor,
): BenchCase {
  const [vocabulary, count, width] = [32_000, 8192, 512];
  return {
    operator,
    shape: `f32 ${count} of ${vocabulary} x ${width}`,
    bytes: passes * 4 * count * width,
    prepare() {
      const table = normal([vocabulary, width]);
      const ids = randint([count], 0, vocabulary);
      const rows = normal([count, width]);
      return {
        run: () => call(table, ids, rows).dispose(),
        finish: () => device('cpu').synchronize(),
        dispose: () => [table, ids, rows].forEach((t) => void t.dispose()),
      };
    },
  };
}

export default defineBench({
  name: 'memory-bound',
  cases() {
    const [weight, bias] = [ones([1024]), zeros([1024])];
    return [
      over('add', 8192, 1024, 3, (x) => add(x, x)),
      over('gelu', 8192, 1024, 2, (x) => gelu(x)),
      over('softmax', 8192, 1024, 2, (x) => softmax(x, -1)),
      over('layerNorm', 8192, 1024, 2, (x) => layerNorm(x, weight, bias)),
      over('sum of rows', 8192, 1024, 1, (x) => sum(x, 1)),
      over('sum of columns', 8192, 1024, 1, (x) => sum(x, 0)),
      over('argmax', 8192, 1024, 1, (x) => argmax(x, 1)),
      over('topK of 8', 1024, 8192, 1, (x) => first(topK(x, 8))),
      over('sort', 1024, 8192, 3, (x) => first(sort(x))),
      over('top-p sample', 1, 50_000, 1, (x) => categorical(x, { topP: 0.9 })),
      indexed('embedding', 2, (table, ids) => embedding(table, ids)),
      indexed('gather', 3, (table, ids) => gatherRows(table, ids)),
      indexed('scatterAdd', 3, (_, ids, rows) => scatterRows(ids, rows)),
      adam(4096, 1024),
    ];
  },
});
