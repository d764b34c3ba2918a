import { type Context, defineOperator } from '../core/autograd/index.js';
import type { Tensor } from '../core/tensor.js';
import {
  binary,
  mul,
  type Operand,
  type OperandState,
  reduceTo,
  savedOperands,
  saveOperands,
  shapeOf,
  sub,
} from './binary.js';
import { equal } from './compare.js';
import { discard } from './temporary.js';
import { log, reciprocal, rsqrt, sqrt, square } from './unary.js';
import { where } from './where.js';

const powOperator: (a: Operand, b: Operand) => Tensor = defineOperator({
  name: 'pow',
  composed: true,
  forward(ctx: Context<OperandState>, a: Operand, b: Operand): Tensor {
    const y = binary('pow', a, b);
    saveOperands(ctx, a, b);
    return y;
  },
  backward(ctx, grad) {
    if (!grad) return [null, null];
    const [a, b] = savedOperands(ctx);
    return [
      ctx.needs[0] ? gradientOfBase(grad, a as Tensor, b) : null,
      ctx.needs[1] ? gradientOfExponent(grad, a, b as Tensor) : null,
    ];
  },
});

/** g b a^(b - 1). */
function gradientOfBase(grad: Tensor, a: Tensor, b: Operand): Tensor {
  const lower = typeof b === 'number' ? b - 1 : sub(b, 1);
  const power = powOperator(a, lower);
  const slope = mul(power, b);
  const result = reduceTo(mul(grad, slope), a.shape);
  discard(typeof lower === 'number' ? null : lower, power, slope);
  return result;
}

/** g a^b log a, and 0 where a is 0. */
function gradientOfExponent(grad: Tensor, a: Operand, b: Tensor): Tensor {
  if (typeof a === 'number') {
    const power = powOperator(a, b);
    const slope = mul(power, a === 0 ? 0 : Math.log(a));
    const result = mul(grad, slope);
    discard(power, slope);
    return result;
  }
  const zero = equal(a, 0);
  const safe = where(zero, 1, a);
  const logarithm = log(safe);
  const power = powOperator(a, b);
  const slope = mul(power, logarithm);
  const result = reduceTo(mul(grad, slope), shapeOf(b));
  discard(zero, safe, logarithm, power, slope);
  return result;
}

/**
 * a to the power of b, broadcasting, for floats; one operand may be a number. NaN for a negative base
 * with a fractional exponent.
 *
 * @throws ArgumentError for integer tensors, and when dtypes differ or shapes do not broadcast
 * @example
 * pow(tensor([1, 2, 3]), 3); // 1, 8, 27
 */
export function pow(a: Operand, b: Operand): Tensor {
  if (typeof a !== 'number') {
    if (b === 2) return square(a);
    if (b === 0.5) return sqrt(a);
    if (b === -1) return reciprocal(a);
    if (b === -0.5) return rsqrt(a);
  }
  return powOperator(a, b);
}
