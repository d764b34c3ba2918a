/** Where an axis has its marks, and how their numbers are written. */

/** An axis: values to positions, and its marks. */
export interface Axis {
  readonly log: boolean;
  readonly low: number;
  readonly high: number;
  /** Marks with numbers and grid lines. */
  readonly major: readonly number[];
  /** Marks without, on logarithmic axes. */
  readonly minor: readonly number[];
  /** Position of a value from 0 (low end) to 1 (high end). */
  at(value: number): number;
}

/** The step of 1, 2 or 5 times a power of ten that gives about `count` marks. */
function niceStep(span: number, count: number): number {
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const lead = rough / power;
  return power * (lead < 1.42 ? 1 : lead < 3.17 ? 2 : lead < 7.08 ? 5 : 10);
}

/** A linear axis that covers the values with whole steps. */
function linearAxis(low: number, high: number, count: number): Axis {
  const flat = high > low ? 0 : Math.max(Math.abs(low) * 0.05, 1e-9);
  const step = niceStep(high - low + 2 * flat, count);
  // Marks are multiples of the step; rounding decides cases like 0.6000000000000001.
  const first = Math.floor((low - flat) / step + 1e-9);
  const last = Math.ceil((high + flat) / step - 1e-9);
  const major = Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  );
  const [from, to] = [major[0], major[major.length - 1]];
  return { log: false, low: from, high: to, major, minor: [], at: (v) => (v - from) / (to - from) };
}

/** Few powers of two, as lengths of sequences are: they are their own best marks. */
const arePowersOfTwo = (values: readonly number[]): boolean =>
  values.length >= 2 && values.length <= 9 && values.every((v) => Number.isInteger(Math.log2(v)));

/** A logarithmic axis over positive values; marks at powers of ten, or at 1, 2 and 5 in between. */
function logAxis(low: number, high: number, values: readonly number[]): Axis {
  const decades = Math.log10(high / low);
  const leads = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
  const marks = (of: readonly number[]): number[] => {
    const all: number[] = [];
    for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power++) {
      for (const lead of of) all.push(Number((lead * 10 ** power).toPrecision(12)));
    }
    return all;
  };
  const pad = Math.max(0.04 * decades, 0.02);
  const from = low * 10 ** -pad;
  const to = high * 10 ** pad;
  const inside = (v: number): boolean => v >= from && v <= to;
  const spread = Math.log10(to / from);
  let major = marks(leads).filter(inside);
  if (major.length < 2) major = linearAxis(from, to, 4).major.filter((v) => v > 0 && inside(v));
  const binary = arePowersOfTwo(values);
  if (binary) major = [...values].sort((a, b) => a - b);
  return {
    log: true,
    low: from,
    high: to,
    major,
    minor: binary
      ? []
      : marks([1, 2, 3, 4, 5, 6, 7, 8, 9]).filter((v) => inside(v) && !major.includes(v)),
    at: (v) => Math.log10(v / from) / spread,
  };
}

/** The axis for a set of values; non-positive ones have no place on a logarithmic axis. */
export function axisFor(values: readonly number[], log: boolean, count: number): Axis {
  const usable = [...new Set(values.filter((v) => Number.isFinite(v) && (!log || v > 0)))];
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const v of usable) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  if (usable.length === 0) [low, high] = log ? [1, 10] : [0, 1];
  return log ? logAxis(low, high, usable) : linearAxis(low, high, count);
}

/** A number as a mark shows it: `0.25`, `1500`, `4M`, `3e−4`. */
export function formatTick(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return '0';
  const short = (v: number): string => String(Number(v.toPrecision(4)));
  const sign = value < 0 ? '\u2212' : '';
  if (Number.isInteger(size) && size < 1e6) return sign + size;
  if (size >= 1e15 || size < 1e-3) {
    return value.toExponential().replace('e+', 'e').replace('-', '\u2212');
  }
  for (const [unit, name] of [
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e4, 'k'],
  ] as const) {
    if (size >= unit) return sign + short(size / (name === 'k' ? 1e3 : unit)) + name;
  }
  return sign + short(size);
}
