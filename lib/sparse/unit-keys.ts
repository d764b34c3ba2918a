/** Keys that are the queries' directions. */
import type { Tensor } from '../core/tensor.js';
import { rmsNorm } from '../dense/rms-norm.js';

/** @internal Keys for queries [..., D], and the scale that makes them unit vectors. */
export function unitKeys(
  q: Tensor,
  { scale, eps = 1e-12 }: { scale?: number | undefined; eps?: number } = {},
): { keys: Tensor; scale: number } {
  const length = Math.sqrt(q.shape.at(-1) ?? 1);
  // Unit keys are those of root mean square 1 by sqrt(D), which the scale takes over.
  return { keys: rmsNorm(q, null, { eps }), scale: (scale ?? 1 / length) / length };
}
