/** Softmax and cross entropy in float64, from their definitions. */

/** log(sum(exp(x))) of one row. */
export function logSumExp(x: readonly number[]): number {
  const top = Math.max(...x);
  if (top === Number.NEGATIVE_INFINITY) return top;
  return top + Math.log(x.reduce((sum, v) => sum + Math.exp(v - top), 0));
}

/** Rows of length n along the middle axis of [outer, n, inner]. */
function alongAxis(
  x: ArrayLike<number>,
  [outer, n, inner]: readonly [number, number, number],
  row: (x: number[]) => readonly number[],
): Float64Array {
  const y = new Float64Array(x.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const at = (k: number) => (o * n + k) * inner + i;
      const values = Array.from({ length: n }, (_, k) => x[at(k)] as number);
      row(values).forEach((v, k) => {
        y[at(k)] = v;
      });
    }
  }
  return y;
}

export function softmaxReference(
  x: ArrayLike<number>,
  shape: readonly [number, number, number],
): Float64Array {
  return alongAxis(x, shape, (row) => {
    const lse = logSumExp(row);
    return row.map((v) => (lse === Number.NEGATIVE_INFINITY ? 0 : Math.exp(v - lse)));
  });
}

export function logSoftmaxReference(
  x: ArrayLike<number>,
  shape: readonly [number, number, number],
): Float64Array {
  return alongAxis(x, shape, (row) => {
    const lse = logSumExp(row);
    return row.map((v) => (lse === Number.NEGATIVE_INFINITY ? lse : v - lse));
  });
}

/** Loss of every row: sum q (lse - x) + z lse^2, and sum q log q for `others`; 0 where ignored. */
export function crossEntropyReference(
  logits: ArrayLike<number>,
  classes: number,
  targets: ArrayLike<number>,
  {
    labelSmoothing = 0,
    smoothingOver = 'all',
    ignoreIndex = -100,
    zLoss = 0,
  }: {
    labelSmoothing?: number;
    smoothingOver?: 'all' | 'others';
    ignoreIndex?: number;
    zLoss?: number;
  } = {},
): Float64Array {
  return Float64Array.from(targets, (target, row) => {
    if (target === ignoreIndex) return 0;
    const x = Array.from({ length: classes }, (_, v) => logits[row * classes + v] as number);
    const others = x.map((_, v) => v).filter((v) => v !== target && v !== ignoreIndex);
    const q = x.map((_, v) => {
      if (smoothingOver === 'all') {
        return labelSmoothing / classes + (v === target ? 1 - labelSmoothing : 0);
      }
      if (v === target) return 1 - labelSmoothing;
      return v === ignoreIndex ? 0 : labelSmoothing / others.length;
    });
    const lse = logSumExp(x);
    let loss = zLoss * lse ** 2;
    x.forEach((v, k) => {
      const share = q[k] as number;
      if (share > 0) loss += share * (lse - v);
      if (share > 0 && smoothingOver === 'others') loss += share * Math.log(share);
    });
    return loss;
  });
}
