import type { Tensor } from '../../core/tensor.js';
import { add } from '../../dense/index.js';
import type { Norm } from './norm.js';

/**
 * A residual stream x + delta whose last summand is added by the norm that reads it next, in the
 * same pass over memory.
 */
export interface Stream {
  readonly x: Tensor;
  readonly delta: Tensor | null;
}

/** The sum of a stream. */
export function settled({ x, delta }: Stream): Tensor {
  return delta ? add(x, delta) : x;
}

/** The normalised sum of a stream, and the sum. */
export function normalised(norm: Norm, { x, delta }: Stream): { y: Tensor; sum: Tensor } {
  return delta ? norm.forwardSum(x, delta) : { y: norm.forward(x), sum: x };
}
