/**
 * Compares two result files row by row. A row is a regression only if it is slower by more than a
 * relative threshold, by more than an absolute one, and by more than the noise of both files (the
 * spread between their quartiles): timings of a busy machine differ by themselves.
 */
import { type BenchFile, type BenchRow, keyOf } from './result.js';

export interface CompareOptions {
  /** Relative slowdown that counts. Default 0.08. */
  relative?: number;
  /** Seconds of slowdown that count. Default 20e-6. */
  absolute?: number;
}

export type Verdict = 'slower' | 'faster' | 'same' | 'missing' | 'new';

export interface Comparison {
  key: string;
  verdict: Verdict;
  /** head time over base time; NaN when one is missing. */
  ratio: number;
  base?: number;
  head?: number;
}

export function compare(
  base: BenchFile,
  head: BenchFile,
  options: CompareOptions = {},
): Comparison[] {
  const { relative = 0.08, absolute = 20e-6 } = options;
  const heads = new Map(head.rows.map((row) => [keyOf(row), row]));
  const result: Comparison[] = base.rows.map((row) => {
    const key = keyOf(row);
    const other = heads.get(key);
    heads.delete(key);
    if (!other) return { key, verdict: 'missing', ratio: Number.NaN, base: row.seconds };
    const difference = other.seconds - row.seconds;
    const noise = (spread(row) + spread(other)) / 2;
    const counts = Math.abs(difference) > Math.max(row.seconds * relative, absolute, noise);
    return {
      key,
      verdict: counts ? (difference > 0 ? 'slower' : 'faster') : 'same',
      ratio: other.seconds / row.seconds,
      base: row.seconds,
      head: other.seconds,
    };
  });
  for (const [key, row] of heads) {
    result.push({ key, verdict: 'new', ratio: Number.NaN, head: row.seconds });
  }
  return result;
}

/** Whether the comparison should fail a build: something got slower, or a row disappeared. */
export function isRegression(comparisons: readonly Comparison[]): boolean {
  return comparisons.some(({ verdict }) => verdict === 'slower' || verdict === 'missing');
}

function spread(row: BenchRow): number {
  return row.quartiles[1] - row.quartiles[0];
}
