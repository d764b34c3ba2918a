import { compare, isRegression } from '../../bench/harness/compare.js';
import type { BenchFile, BenchRow } from '../../bench/harness/result.js';
import { median, quantile } from '../../bench/harness/statistics.js';

const row = (operator: string, seconds: number, spread = 0.02): BenchRow => ({
  operator,
  shape: 's',
  threads: 2,
  seconds,
  quartiles: [seconds * (1 - spread / 2), seconds * (1 + spread / 2)],
  samples: [seconds],
});
const file = (...rows: BenchRow[]) => ({ rows }) as unknown as BenchFile;
const verdicts = (base: BenchFile, head: BenchFile) => compare(base, head).map((c) => c.verdict);

test('small differences are noise', () => {
  expect(verdicts(file(row('a', 1)), file(row('a', 1.07)))).toEqual(['same']);
});

test('a clear slowdown is a regression, a speed-up is not', () => {
  const slow = compare(file(row('a', 1)), file(row('a', 1.2)));
  expect(slow).toMatchObject([{ verdict: 'slower', ratio: 1.2 }]);
  expect(isRegression(slow)).toBe(true);
  const fast = compare(file(row('a', 1)), file(row('a', 0.8)));
  expect(fast[0]?.verdict).toBe('faster');
  expect(isRegression(fast)).toBe(false);
});

test('a relative slowdown of a few microseconds does not count', () => {
  expect(verdicts(file(row('a', 5e-6)), file(row('a', 9e-6)))).toEqual(['same']);
});

test('a row noisier than the difference is not judged', () => {
  expect(verdicts(file(row('a', 1, 0.5)), file(row('a', 1.2, 0.5)))).toEqual(['same']);
});

test('rows that vanish or appear are named', () => {
  const result = compare(file(row('a', 1), row('b', 1)), file(row('b', 1), row('c', 1)));
  expect(result.map((c) => [c.key.slice(0, 1), c.verdict])).toEqual([
    ['a', 'missing'],
    ['b', 'same'],
    ['c', 'new'],
  ]);
  expect(isRegression(result)).toBe(true);
});

test('quantiles interpolate', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(quantile([1, 2, 3, 4], 0.25)).toBe(1.75);
  expect(median([])).toBeNaN();
});
