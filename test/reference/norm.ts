/** Norms over the last axis, in float64. */

/** y = (s - mean) / sqrt(var + eps) * weight + bias per row of length n; `unbiased`: over (n - 1), eps outside. */
export function layerNormReference(
  x: ArrayLike<number>,
  n: number,
  {
    weight,
    bias,
    eps = 1e-5,
    unbiased = false,
  }: {
    weight?: ArrayLike<number> | undefined;
    bias?: ArrayLike<number> | undefined;
    eps?: number;
    unbiased?: boolean;
  } = {},
): Float64Array {
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += n) {
    let mean = 0;
    for (let i = 0; i < n; i++) mean += (x[start + i] as number) / n;
    let squares = 0;
    for (let i = 0; i < n; i++) squares += ((x[start + i] as number) - mean) ** 2;
    const divisor = unbiased ? Math.sqrt(squares / (n - 1)) + eps : Math.sqrt(squares / n + eps);
    for (let i = 0; i < n; i++) {
      y[start + i] =
        (((x[start + i] as number) - mean) / divisor) * (weight?.[i] ?? 1) + (bias?.[i] ?? 0);
    }
  }
  return y;
}

/** y = s / sqrt(mean(s^2) + eps) * weight per row of length n. */
export function rmsNormReference(
  x: ArrayLike<number>,
  n: number,
  { weight, eps = 1e-6 }: { weight?: ArrayLike<number> | undefined; eps?: number } = {},
): Float64Array {
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += n) {
    let squares = 0;
    for (let i = 0; i < n; i++) squares += (x[start + i] as number) ** 2;
    const divisor = Math.sqrt(squares / n + eps);
    for (let i = 0; i < n; i++) {
      y[start + i] = ((x[start + i] as number) / divisor) * (weight?.[i] ?? 1);
    }
  }
  return y;
}
