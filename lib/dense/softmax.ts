import type { Context } from '../core/autograd/index.js';
import { defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import type { Tensor } from '../core/tensor.js';

const forwardFields = { x: field.input, axis: field.integer, y: field.output } as const;
const backwardFields = {
  gradY: field.input,
  y: field.input,
  axis: field.integer,
  gradX: field.output,
} as const;
const softmaxCall = nativeOperator('softmax', forwardFields);
const softmaxBackwardCall = nativeOperator('softmaxBackward', backwardFields);
const logSoftmaxCall = nativeOperator('logSoftmax', forwardFields);
const logSoftmaxBackwardCall = nativeOperator('logSoftmaxBackward', backwardFields);

const softmaxOperator = defineOperator({
  name: 'softmax',
  forward(ctx: Context<number>, x: Tensor, axis: number): Tensor {
    ctx.state = axis;
    const { y } = softmaxCall({ x, axis });
    ctx.save(y);
    return y;
  },
  backward(ctx, gradY) {
    const [y] = ctx.saved() as [Tensor];
    return [gradY && softmaxBackwardCall({ gradY, y, axis: ctx.state }).gradX, null];
  },
}) as (x: Tensor, axis: number) => Tensor;

const logSoftmaxOperator = defineOperator({
  name: 'logSoftmax',
  forward(ctx: Context<number>, x: Tensor, axis: number): Tensor {
    ctx.state = axis;
    const { y } = logSoftmaxCall({ x, axis });
    ctx.save(y);
    return y;
  },
  backward(ctx, gradY) {
    const [y] = ctx.saved() as [Tensor];
    return [gradY && logSoftmaxBackwardCall({ gradY, y, axis: ctx.state }).gradX, null];
  },
}) as (x: Tensor, axis: number) => Tensor;

/**
 * exp(x) / sum(exp(x)) along an axis. A row of -inf alone gives zeros.
 *
 * @param x floating, at least one axis; computed in f32 (f64 for f64)
 * @param axis default the last; negative axes count from the end
 * @throws ArgumentError for an axis out of range
 * @example
 * softmax(tensor([1, 2, 3])).dataSync(); // 0.0900, 0.2447, 0.6652
 */
export function softmax(x: Tensor, axis = -1): Tensor {
  return softmaxOperator(x, axis);
}

/**
 * Logarithm of the softmax along an axis. A row of -inf alone stays -inf.
 *
 * @param x floating, at least one axis; computed in f32 (f64 for f64)
 * @param axis default the last; negative axes count from the end
 * @example
 * logSoftmax(tensor([0, 0])).dataSync(); // -0.6931, -0.6931
 */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return logSoftmaxOperator(x, axis);
}
