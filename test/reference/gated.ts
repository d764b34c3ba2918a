/** Gated activations in float64: element i of the first operand with element i of the second. */
import { unary } from './unary.js';

type Two = (a: number, b: number) => number;

export const gated = {
  swiglu: (a, b) => unary.silu(a) * b,
  geglu: (a, b) => unary.gelu(a) * b,
  gegluTanh: (a, b) => unary.geluTanh(a) * b,
  reglu: (a, b) => unary.relu(a) * b,
  glu: (a, b) => a * unary.sigmoid(b),
} satisfies Record<string, Two>;
