import { type Context, defineOperator } from '../core/autograd/index.js';
import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { cast } from '../core/methods.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { type AxesArgument, axesOf } from './axes.js';
import { mul, sub } from './binary.js';
import { type ReduceOptions, type ReduceState, reduce, spread } from './sum.js';
import { discard } from './temporary.js';

function countOf(x: Tensor, axes: readonly number[]): number {
  return axes.reduce((n, axis) => n * (x.shape[axis] as number), 1);
}

const meanOperator = defineOperator({
  name: 'mean',
  composed: true,
  forward(
    ctx: Context<ReduceState & { count: number }>,
    x: Tensor,
    axes: readonly number[],
    keepDims: boolean,
  ): Tensor {
    ctx.state = { shape: x.shape, axes, count: countOf(x, axes) };
    return reduce('mean', x, axes, keepDims);
  },
  backward(ctx, grad) {
    if (!grad) return [null];
    const scaled = mul(grad, 1 / ctx.state.count);
    const wide = spread(scaled, ctx.state);
    discard(scaled);
    return [wide];
  },
}) as (x: Tensor, axes: readonly number[], keepDims: boolean) => Tensor;

/**
 * Mean over axes, by default over all; NaN where there is nothing to average.
 *
 * @throws ArgumentError for integer tensors and for axes that do not exist or repeat
 * @example
 * const m = mean(tensor([1, 2, 6])); // 3
 */
export function mean(x: Tensor, axes?: AxesArgument, options: ReduceOptions = {}): Tensor {
  checkOptions('mean', options, ['keepDims']);
  return meanOperator(x, axesOf('mean', x, axes), options.keepDims ?? false);
}

interface VarianceState extends ReduceState {
  divisor: number;
}

/** Squared distances from the mean, in two passes: no cancellation of large sums. */
const varianceOperator = defineOperator({
  name: 'variance',
  composed: true,
  forward(
    ctx: Context<VarianceState>,
    x: Tensor,
    axes: readonly number[],
    keepDims: boolean,
    correction: number,
  ): Tensor {
    const count = countOf(x, axes);
    ctx.state = { shape: x.shape, axes, divisor: count - correction };
    ctx.save(x);
    // Squares of 16-bit floats would lose their range.
    const wide = x.dtype === 'f16' || x.dtype === 'bf16' ? cast(x, 'f32') : x;
    const distance = centred(wide, axes);
    const squares = mul(distance, distance);
    const average = mean(squares, axes, { keepDims });
    const result = mul(average, count / ctx.state.divisor);
    discard(distance, squares, average);
    if (wide === x) return result;
    const narrow = cast(result, x.dtype);
    discard(wide, result);
    return narrow;
  },
  backward(ctx, grad) {
    if (!grad) return [null];
    const [x] = ctx.saved() as [Tensor];
    const distance = centred(x, ctx.state.axes);
    const scaled = mul(grad, 2 / ctx.state.divisor);
    const wide = spread(scaled, ctx.state);
    const result = mul(wide, distance);
    discard(distance, scaled, wide);
    return [result];
  },
}) as (x: Tensor, axes: readonly number[], keepDims: boolean, correction: number) => Tensor;

function centred(x: Tensor, axes: readonly number[]): Tensor {
  const middle = mean(x, axes, { keepDims: true });
  const distance = sub(x, middle);
  discard(middle);
  return distance;
}

/**
 * Variance over axes, by default over all: squared distances from the mean over count - correction.
 *
 * @param options.correction 1 for the estimate from a sample (default), 0 for the population
 * @throws ArgumentError for integer tensors and for axes that do not exist or repeat
 * @example
 * variance(tensor([1, 2, 3])); // 1
 */
export function variance(
  x: Tensor,
  axes?: AxesArgument,
  options: ReduceOptions & { correction?: number } = {},
): Tensor {
  checkOptions('variance', options, ['keepDims', 'correction']);
  const correction = options.correction ?? 1;
  if (!Number.isFinite(correction)) {
    throw new ArgumentError(
      'ERR_OPTION',
      'variance',
      'correction',
      show(correction),
      'Use a finite number',
    );
  }
  return varianceOperator(x, axesOf('variance', x, axes), options.keepDims ?? false, correction);
}
