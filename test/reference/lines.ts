/** Work on the lines of an array along an axis, in float64. */
import { indexOf, placeOf, sizeOf } from './broadcast.js';

/** Replaces each line along `axis` by f(line). */
export function alongAxis(
  x: ArrayLike<number>,
  shape: readonly number[],
  axis: number,
  f: (line: number[]) => ArrayLike<number>,
): { data: Float64Array; shape: number[] } {
  const others = shape.map((d, i) => (i === axis ? 1 : d));
  const lines = Array.from({ length: sizeOf(others) }, (_, i) => {
    const at = indexOf(i, others);
    return f(
      Array.from({ length: shape[axis] as number }, (_, k) => {
        at[axis] = k;
        return x[placeOf(at, shape)] as number;
      }),
    );
  });
  const result = shape.map((d, i) => (i === axis ? (lines[0]?.length ?? 0) : d));
  const data = new Float64Array(sizeOf(result));
  lines.forEach((line, i) => {
    const at = indexOf(i, others);
    for (let k = 0; k < line.length; k++) {
      at[axis] = k;
      data[placeOf(at, result)] = line[k] as number;
    }
  });
  return { data, shape: result };
}

/** Positions that sort a line, stable; NaN is the largest. */
export function order(line: readonly number[], descending = false): number[] {
  const rank = (v: number) => (Number.isNaN(v) ? Number.POSITIVE_INFINITY : v);
  const nan = (v: number) => (Number.isNaN(v) ? 1 : 0);
  const sign = descending ? -1 : 1;
  return line
    .map((_, i) => i)
    .sort((i, j) => {
      const [a, b] = [line[i] as number, line[j] as number];
      const byValue = rank(a) === rank(b) ? nan(a) - nan(b) : rank(a) < rank(b) ? -1 : 1;
      return sign * byValue || i - j;
    });
}

export function cumsum(line: readonly number[]): number[] {
  let total = 0;
  return line.map((v) => {
    total += v;
    return total;
  });
}
