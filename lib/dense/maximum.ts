/** The larger and the smaller of two operands. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import type { Tensor } from '../core/tensor.js';
import {
  binary,
  type Operand,
  type OperandState,
  reduceTo,
  savedOperands,
  saveOperands,
  shapeOf,
} from './binary.js';
import { greaterEqual, lessEqual } from './compare.js';
import { discard } from './temporary.js';
import { where } from './where.js';

function pick(kind: 'maximum' | 'minimum'): (a: Operand, b: Operand) => Tensor {
  return defineOperator({
    name: kind,
    composed: true,
    forward(ctx: Context<OperandState>, a: Operand, b: Operand): Tensor {
      const y = binary(kind, a, b);
      saveOperands(ctx, a, b);
      return y;
    },
    backward(ctx, grad) {
      if (!grad) return [null, null];
      const [a, b] = savedOperands(ctx);
      const first = kind === 'maximum' ? greaterEqual(a, b) : lessEqual(a, b);
      const result = [
        ctx.needs[0] ? reduceTo(where(first, grad, 0), shapeOf(a)) : null,
        ctx.needs[1] ? reduceTo(where(first, 0, grad), shapeOf(b)) : null,
      ];
      discard(first);
      return result;
    },
  });
}

const maximumOperator = pick('maximum');
/**
 * The larger of a and b, broadcasting; NaN where either is NaN. Where they are equal the gradient goes to a.
 *
 * @throws ArgumentError when dtypes differ or shapes do not broadcast
 * @example
 * maximum(tensor([1, 5]), 3); // 3, 5
 */
export function maximum(a: Operand, b: Operand): Tensor {
  return maximumOperator(a, b);
}

const minimumOperator = pick('minimum');
/**
 * The smaller of a and b; see {@link maximum}.
 * @example
 * minimum(tensor([1, 5]), 3); // 1, 3
 */
export function minimum(a: Operand, b: Operand): Tensor {
  return minimumOperator(a, b);
}
