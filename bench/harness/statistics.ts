/** Order statistics: timings have outliers on one side only, so means mislead. */

export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const a = sorted[low] as number;
  const b = sorted[Math.min(low + 1, sorted.length - 1)] as number;
  return a + (b - a) * (at - low);
}

/** The b of y = a x^b that is nearest in logarithms. */
export function exponent(x: readonly number[], y: readonly number[]): number {
  const [u, w] = [x, y].map((values) => values.map(Math.log)) as [number[], number[]];
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const [mu, mw] = [mean(u), mean(w)];
  const along = u.reduce((sum, value) => sum + (value - mu) ** 2, 0);
  return u.reduce((sum, value, i) => sum + (value - mu) * ((w[i] as number) - mw), 0) / along;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}
