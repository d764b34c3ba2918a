import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { axisOf } from '../core/views.js';

const cumsumCall = nativeOperator('cumsum', {
  x: field.input,
  axis: field.integer,
  reverse: field.flag,
  y: field.output,
});

const cumsumOperator: (x: Tensor, axis: number, reverse: boolean) => Tensor = defineOperator({
  name: 'cumsum',
  composed: true,
  forward(
    ctx: Context<{ axis: number; reverse: boolean }>,
    x: Tensor,
    axis: number,
    reverse: boolean,
  ): Tensor {
    ctx.state = { axis, reverse };
    return cumsumCall({ x, axis, reverse }).y;
  },
  backward(ctx, grad) {
    return [grad && cumsumOperator(grad, ctx.state.axis, !ctx.state.reverse)];
  },
});

/**
 * Running sums along an axis, each element included in its own. Floats or i32.
 *
 * @param options.reverse sums from the end. Default false
 * @throws ArgumentError for an axis that does not exist
 * @example
 * cumsum(tensor([1, 2, 3]), 0); // 1, 3, 6
 */
export function cumsum(x: Tensor, axis: number, options: { reverse?: boolean } = {}): Tensor {
  checkOptions('cumsum', options, ['reverse']);
  const at = axisOf('cumsum', 'axis', axis, asTensor('cumsum', 'x', x).rank);
  return cumsumOperator(x, at, options.reverse ?? false);
}
