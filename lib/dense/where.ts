import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator } from '../core/declare.js';
import type { Shape, Tensor } from '../core/tensor.js';
import { type Operand, reduceTo, shapeOf } from './binary.js';

const whereCall = nativeOperator('where', {
  condition: field.input,
  a: field.optional,
  b: field.optional,
  valueA: field.number,
  valueB: field.number,
  y: field.output,
});

const whereOperator: (condition: Tensor, a: Operand, b: Operand) => Tensor = defineOperator({
  name: 'where',
  composed: true,
  forward(ctx: Context<{ a: Shape; b: Shape }>, condition: Tensor, a: Operand, b: Operand): Tensor {
    const { y } = whereCall({
      condition,
      a: typeof a === 'number' ? null : asTensor('where', 'a', a),
      b: typeof b === 'number' ? null : asTensor('where', 'b', b),
      valueA: typeof a === 'number' ? a : 0,
      valueB: typeof b === 'number' ? b : 0,
    });
    ctx.save(condition);
    ctx.state = { a: shapeOf(a), b: shapeOf(b) };
    return y;
  },
  backward(ctx, grad) {
    const [condition] = ctx.saved() as [Tensor];
    const { a, b } = ctx.state;
    return [
      null,
      grad && ctx.needs[1] ? reduceTo(whereOperator(condition, grad, 0), a) : null,
      grad && ctx.needs[2] ? reduceTo(whereOperator(condition, 0, grad), b) : null,
    ];
  },
});

/**
 * `a` where `condition` is not 0, else `b`, broadcasting all three. What is not taken gets gradient 0.
 *
 * @param condition u8, as comparisons give
 * @param a of one dtype with `b`; one of them may be a number
 * @throws ArgumentError when dtypes differ or shapes do not broadcast
 * @example
 * const x = tensor([-1, 2]);
 * where(less(x, 0), 0, x); // 0, 2
 */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  return whereOperator(condition, a, b);
}
