/** Rotary embedding of [outer, N, inner, D] in float64, from its definition. */
export function rotaryReference(
  x: ArrayLike<number>,
  [outer, n, inner, channels]: readonly [number, number, number, number],
  {
    position = (_, i) => i,
    base = 10000,
    dim = channels,
    interleaved = false,
    inverse = false,
  }: {
    /** Of element i in outer entry o. */
    position?: (o: number, i: number) => number;
    base?: number;
    dim?: number;
    interleaved?: boolean;
    inverse?: boolean;
  } = {},
): Float64Array {
  const y = Float64Array.from(x);
  for (let row = 0; row < outer * n * inner; row++) {
    const i = Math.floor(row / inner) % n;
    const p = position(Math.floor(row / inner / n), i) * (inverse ? -1 : 1);
    for (let pair = 0; pair < dim / 2; pair++) {
      const angle = p * base ** ((-2 * pair) / dim);
      const [c, s] = [Math.cos(angle), Math.sin(angle)];
      const a = row * channels + (interleaved ? 2 * pair : pair);
      const b = interleaved ? a + 1 : a + dim / 2;
      y[a] = (x[a] as number) * c - (x[b] as number) * s;
      y[b] = (x[b] as number) * c + (x[a] as number) * s;
    }
  }
  return y;
}
