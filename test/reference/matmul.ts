/** Matrix products in float64, written for reading. */
import type { Activation } from 'longspan';
import { activationTwins } from './activation.js';

export interface Matrices {
  values: ArrayLike<number>;
  shape: readonly number[];
}

const product = (lengths: readonly number[]) => lengths.reduce((n, d) => n * d, 1);

/** Batch axes of both operands after broadcasting. */
export function broadcastBatch(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  const at = (s: readonly number[], i: number) => s[i - (rank - s.length)] ?? 1;
  return Array.from({ length: rank }, (_, i) => (at(a, i) === 1 ? at(b, i) : at(a, i)));
}

/** Position of batch element `index` (of `batch`) in an operand with batch axes `own`. */
function elementOf(index: number, batch: readonly number[], own: readonly number[]): number {
  let rest = index;
  let position = 0;
  let step = 1;
  for (let i = batch.length - 1; i >= 0; i--) {
    const at = rest % (batch[i] as number);
    rest = Math.floor(rest / (batch[i] as number));
    const length = own[i - (batch.length - own.length)] ?? 1;
    if (length !== 1) position += at * step;
    step *= length;
  }
  return position;
}

/** activation(a b + bias) for [..., M, K] x [..., K, N]. */
export function matmulTwin(
  a: Matrices,
  b: Matrices,
  bias: ArrayLike<number> | null = null,
  activation: Activation = 'none',
): { values: Float64Array; shape: number[] } {
  const batch = broadcastBatch(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const [m, k] = a.shape.slice(-2) as [number, number];
  const n = b.shape.at(-1) as number;
  const values = new Float64Array(product(batch) * m * n);
  for (let z = 0; z < product(batch); z++) {
    const fromA = elementOf(z, batch, a.shape.slice(0, -2)) * m * k;
    const fromB = elementOf(z, batch, b.shape.slice(0, -2)) * k * n;
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) {
          sum += (a.values[fromA + i * k + p] as number) * (b.values[fromB + p * n + j] as number);
        }
        values[(z * m + i) * n + j] = activationTwins[activation](sum + (bias?.[j] ?? 0));
      }
    }
  }
  return { values, shape: [...batch, m, n] };
}

/** The last two axes exchanged. */
export function transposedTwin(x: Matrices): { values: Float64Array; shape: number[] } {
  const [r, c] = x.shape.slice(-2) as [number, number];
  const values = Float64Array.from({ length: x.values.length }, (_, at) => {
    const matrix = Math.floor(at / (r * c)) * r * c;
    const i = Math.floor((at - matrix) / r);
    const j = (at - matrix) % r;
    return x.values[matrix + j * c + i] as number;
  });
  return { values, shape: [...x.shape.slice(0, -2), c, r] };
}
