/** Elementwise functions in float64, by their textbook formulas. */

/** erf by its Taylor series near 0 and the continued fraction of erfc (Lentz) beyond. */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  const a = Math.abs(x);
  if (a < 2.5) {
    let term = x;
    let total = x;
    for (let n = 1; n < 80; n++) {
      term *= (-x * x) / n;
      total += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * total;
  }
  return Math.sign(x) * (1 - erfcTail(a));
}

/** erfc of x >= 2.5. */
function erfcTail(x: number): number {
  if (x > 27) return 0;
  let fraction = 0;
  for (let k = 200; k > 0; k--) fraction = k / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

/** Distribution function of the standard normal. */
export function normalCdf(x: number): number {
  const t = x / Math.SQRT2;
  if (t <= -2.5) return erfcTail(-t) / 2;
  return (1 + erf(t)) / 2;
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const relu = (x: number) => (x > 0 ? x : Number.isNaN(x) ? x : 0);

function roundEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  if (rest < 0.5) return down;
  if (rest > 0.5) return down + 1;
  return down % 2 === 0 ? down : down + 1;
}

export const unary = {
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x: number) => 1 / Math.sqrt(x),
  abs: Math.abs,
  neg: (x: number) => -x,
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  sigmoid,
  erf,
  square: (x: number) => x * x,
  reciprocal: (x: number) => 1 / x,
  softplus: (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  relu,
  reluSquared: (x: number) => relu(x) ** 2,
  gelu: (x: number) => x * normalCdf(x),
  geluTanh: (x: number) =>
    0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  silu: (x: number) => x * sigmoid(x),
  floor: Math.floor,
  round: roundEven,
  sign: Math.sign,
};
