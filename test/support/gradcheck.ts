/** Gradients of the tape against finite differences, in f64. */
import { gradients, type Tensor, tensor, tidy } from 'longspan';
import { Random } from './random.js';

export interface GradientCheck {
  /** Half the distance of the central difference. Default 1e-5. */
  eps?: number;
  /** Allowed error, relative to the larger of 1 and the gradient. Default 1e-7. */
  tolerance?: number;
  /** At most so many elements of each input are perturbed, chosen by seed. Default 64. */
  elements?: number;
  seed?: number;
}

function listOf(result: Tensor | readonly Tensor[]): readonly Tensor[] {
  return 'isTensor' in result ? [result as Tensor] : (result as readonly Tensor[]);
}

/**
 * Compares the gradients of sum(u * fn(inputs)) for fixed random u with central differences.
 *
 * @param fn any composition of operators; integer results are ignored. To test views, make them inside.
 * @param inputs f64 tensors are differentiated by, others are passed through
 * @throws Error that names input, element, both gradients
 * @example
 * await checkGradients((a, b) => matmul(a, b), [tensorOf(x, [3, 4], 'f64'), tensorOf(y, [4, 2], 'f64')]);
 */
export async function checkGradients(
  fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  { eps = 1e-5, tolerance = 1e-7, elements = 64, seed = 1 }: GradientCheck = {},
): Promise<void> {
  const random = new Random(seed);
  const leaves = inputs.map((t) => (t.dtype === 'f64' ? t.clone().requireGrad() : t));
  const outputs = listOf(fn(...leaves)).filter((t) => t.requiresGrad);
  if (outputs.length === 0) throw new Error('checkGradients: no result depends on an f64 input');
  const upstream = outputs.map((t) => random.normal(t.size));
  const wrt = leaves.filter((t) => t.dtype === 'f64');
  const analytic = gradients(outputs, wrt, {
    gradients: outputs.map((t, i) => tensor(upstream[i] as Float64Array, { shape: t.shape })),
  });

  const floating = (list: readonly Tensor[]) => list.filter((t) => t.dtype === 'f64');
  const loss = (at: readonly Tensor[]): number =>
    tidy(() => {
      let total = 0;
      floating(listOf(fn(...at))).forEach((t, i) => {
        const y = t.dataSync();
        const u = upstream[i] as Float64Array;
        for (let k = 0; k < u.length; k++) total += (y[k] as number) * (u[k] as number);
      });
      return total;
    });

  let checked = 0;
  for (let i = 0; i < inputs.length; i++) {
    const input = inputs[i] as Tensor;
    if (input.dtype !== 'f64') continue;
    const gradient = analytic[checked++];
    const computed = gradient ? await gradient.data() : new Float64Array(input.size);
    const x = Float64Array.from(await input.data());
    const chosen = random.permutation(input.size).slice(0, elements);
    for (const k of chosen) {
      const side = (sign: number): number => {
        const moved = x.slice();
        moved[k] = (x[k] as number) + sign * eps;
        const at = [...inputs];
        const t = tensor(moved, { shape: input.shape });
        at[i] = t;
        const value = loss(at);
        t.dispose();
        return value;
      };
      const numeric = (side(1) - side(-1)) / (2 * eps);
      const error = Math.abs((computed[k] as number) - numeric);
      if (!(error <= tolerance * Math.max(1, Math.abs(numeric)))) {
        throw new Error(
          `gradient of input ${i}, element ${k} of ${input}: ${computed[k]} on the tape, ` +
            `${numeric} by finite differences (error ${error})`,
        );
      }
    }
  }
}
