/** Reductions in float64: the elements of each result, in row-major order of the reduced axes. */
import { indexOf, placeOf, sizeOf } from './broadcast.js';

export function groups(
  x: ArrayLike<number>,
  shape: readonly number[],
  axes: readonly number[],
): number[][] {
  const kept = shape.filter((_, i) => !axes.includes(i));
  const result = Array.from({ length: sizeOf(kept) }, (): number[] => []);
  for (let i = 0; i < sizeOf(shape); i++) {
    const at = indexOf(i, shape).filter((_, axis) => !axes.includes(axis));
    (result[placeOf(at, kept)] as number[]).push(x[i] as number);
  }
  return result;
}

export const sum = (x: readonly number[]) => x.reduce((total, v) => total + v, 0);
export const mean = (x: readonly number[]) => sum(x) / x.length;
export const variance = (x: readonly number[], correction = 1) =>
  sum(x.map((v) => (v - mean(x)) ** 2)) / (x.length - correction);

/** The first of the extreme elements; NaN beats numbers. */
export function argmax(x: readonly number[], sign = 1): number {
  let best = 0;
  x.forEach((v, i) => {
    const b = x[best] as number;
    if (sign * v > sign * b || (Number.isNaN(v) && !Number.isNaN(b))) best = i;
  });
  return best;
}
