/** How a computed tensor is held against an expected one. */
import type { GoldenTensorInfo, Precision } from '../goldens.js';
import { epsilon, rounded, worst } from '../support/compare.js';

/** The element of a tensor that is furthest off, in units of its tolerance. */
export interface Deviation {
  /** Error over tolerance: at most 1 passes. */
  ratio: number;
  index: number[];
  actual: number;
  expected: number;
  tolerance: number;
}

function indexOf(at: number, shape: readonly number[]): number[] {
  const index = new Array<number>(shape.length);
  let rest = at;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = rest % shape[axis];
    rest = Math.floor(rest / shape[axis]);
  }
  return index;
}

/** Whether the manifest says how far off this tensor may be in this precision. */
export function hasTolerance(info: GoldenTensorInfo, dtype: Precision): boolean {
  return info.compare === 'exact' || info.atol?.[dtype] !== undefined;
}

/**
 * The tolerance of every element: `atol`, or the largest of the exceptions that apply to the element
 * and name this precision.
 */
function tolerances(
  info: GoldenTensorInfo,
  expected: Float64Array,
  dtype: Precision,
): (i: number) => number {
  if (info.compare === 'exact') return () => 0;
  const atol = info.atol?.[dtype] ?? 0;
  const special = new Map<number, number>();
  const allow = (i: number, tolerance: number): void => {
    special.set(i, Math.max(tolerance, special.get(i) ?? 0));
  };
  for (const { rows, above, atol: exceptional } of info.exceptions ?? []) {
    const tolerance = exceptional[dtype];
    if (tolerance === undefined) continue;
    for (const row of rows ?? []) {
      const inner = info.shape.slice(row.length).reduce((n, d) => n * d, 1);
      const start = row.reduce((at, i, axis) => at * info.shape[axis] + i, 0) * inner;
      for (let i = start; i < start + inner; i++) allow(i, tolerance);
    }
    if (above === undefined) continue;
    for (let i = 0; i < expected.length; i++) {
      if (Math.abs(expected[i]) > above) allow(i, tolerance);
    }
  }
  return (i) => special.get(i) ?? atol;
}

/**
 * Where `actual` deviates most from `expected`; equal infinities and NaN on both sides agree.
 *
 * @param counts whether an element is compared; all are by default
 */
export function deviation(
  actual: ArrayLike<number>,
  expected: Float64Array,
  info: GoldenTensorInfo,
  dtype: Precision,
  counts: (i: number) => boolean = () => true,
): Deviation {
  const toleranceOf = tolerances(info, expected, dtype);
  let [at, ratio] = [-1, 0];
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i], expected[i]];
    if (a === e || Object.is(a, e) || !counts(i)) continue;
    const error = Math.abs(a - e) / toleranceOf(i);
    const off = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
    if (off > ratio || at < 0) [at, ratio] = [i, off];
  }
  const i = Math.max(at, 0);
  return {
    ratio,
    index: indexOf(i, info.shape),
    actual: actual[i],
    expected: expected[i],
    tolerance: expected.length > 0 ? toleranceOf(i) : 0,
  };
}

/**
 * The tolerance of a 16-bit result where the manifest has none: twice the error of the naive formula,
 * thrice for gradients, or half a unit in the last place of the largest value if that is more.
 *
 * @param naive the formula in float64 on inputs rounded to `dtype`
 */
export function naiveTolerance(
  naive: ArrayLike<number>,
  expected: Float64Array,
  info: GoldenTensorInfo,
  dtype: Precision,
): number {
  const factor = info.role === 'gradient' ? 3 : 2;
  const largest = expected.reduce(
    (most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most),
    0,
  );
  return Math.max(
    factor * worst(rounded(naive, dtype), expected).error,
    (epsilon[dtype] / 2) * largest,
  );
}
