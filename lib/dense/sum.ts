/** Sums, and their adjoint, expansion. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkLengths, checkOptions } from '../core/options.js';
import type { Shape, Tensor } from '../core/tensor.js';
import { reshape } from '../core/views.js';
import { type AxesArgument, axesOf } from './axes.js';
import { discard } from './temporary.js';

const reduceCall = nativeOperator('reduce', {
  x: field.input,
  kind: field.choice('sum', 'mean'),
  axes: field.integers,
  keepDims: field.flag,
  y: field.output,
});

/** @internal The native call. */
export function reduce(
  kind: 'sum' | 'mean',
  x: Tensor,
  axes: readonly number[],
  keepDims: boolean,
): Tensor {
  return reduceCall({ x, kind, axes, keepDims }, undefined, kind).y;
}

/** Options of reductions. */
export interface ReduceOptions {
  /** Keep reduced axes with length 1. Default false. */
  keepDims?: boolean;
}

const expandOperator = defineOperator({
  name: 'expand',
  composed: true,
  forward(ctx: Context<Shape>, x: Tensor, shape: Shape): Tensor {
    ctx.state = x.shape;
    const added = shape.length - x.rank;
    const strides = shape.map((_, i) =>
      i < added || x.shape[i - added] === 1 ? 0 : (x.strides[i - added] as number),
    );
    return x.viewAs(shape, strides, x.offset);
  },
  backward(ctx, grad) {
    return [grad && sumTo(grad, ctx.state)];
  },
}) as (x: Tensor, shape: Shape) => Tensor;

/**
 * `x` repeated along axes of length 1 and along new leading axes, as a view: no memory is used.
 *
 * @param shape what `x` broadcasts to; -1 keeps a length of `x`
 * @throws ArgumentError when `x` does not broadcast to `shape`
 * @example
 * expand(tensor([[1], [2]]), [2, 3]).shape; // [2, 3]
 */
export function expand(x: Tensor, shape: Shape): Tensor {
  asTensor('expand', 'x', x);
  checkLengths('expand', 'shape', shape);
  const added = shape.length - x.rank;
  const full = shape.map((d, i) => (d === -1 && i >= added ? (x.shape[i - added] as number) : d));
  if (
    added < 0 ||
    full.some((d) => !Number.isSafeInteger(d) || d < 0) ||
    x.shape.some((d, i) => d !== 1 && d !== full[i + added])
  ) {
    throw new ArgumentError(
      'ERR_SHAPE',
      'expand',
      'shape',
      show(shape),
      `${x.toString()} must broadcast to it: axes counted from the end must be equal, or 1 in the tensor`,
    );
  }
  return expandOperator(x, full);
}

/** @internal What the backward of a reduction needs. */
export interface ReduceState {
  shape: Shape;
  axes: readonly number[];
}

/** @internal A gradient of a reduction, spread over what was reduced, as a view. */
export function spread(grad: Tensor, { shape, axes }: ReduceState): Tensor {
  const kept = reshape(
    grad,
    shape.map((d, i) => (axes.includes(i) ? 1 : d)),
  );
  const wide = expandOperator(kept, shape);
  discard(kept);
  return wide;
}

const sumOperator = defineOperator({
  name: 'sum',
  composed: true,
  forward(
    ctx: Context<ReduceState>,
    x: Tensor,
    axes: readonly number[],
    keepDims: boolean,
  ): Tensor {
    ctx.state = { shape: x.shape, axes };
    return reduce('sum', x, axes, keepDims);
  },
  backward(ctx, grad) {
    return [grad && spread(grad, ctx.state)];
  },
}) as (x: Tensor, axes: readonly number[], keepDims: boolean) => Tensor;

/**
 * Sum over axes, by default over all. The order of additions depends on the shape alone; narrow floats
 * are added in f32 and f64 and rounded once. Sums of i32 and u8 are i32.
 *
 * @throws ArgumentError for axes that do not exist or repeat
 * @example
 * const rows = sum(tensor([[1, 2], [3, 4]]), 1); // 3, 7
 */
export function sum(x: Tensor, axes?: AxesArgument, options: ReduceOptions = {}): Tensor {
  checkOptions('sum', options, ['keepDims']);
  return sumOperator(x, axesOf('sum', x, axes), options.keepDims ?? false);
}

/** @internal Sums `x` over what broadcasting added, so that the result has `shape`. Itself when nothing changes. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  const added = x.rank - shape.length;
  const axes = x.shape.flatMap((d, i) =>
    i < added || (shape[i - added] === 1 && d !== 1) ? [i] : [],
  );
  if (axes.length === 0) return x;
  const kept = sumOperator(x, axes, true);
  if (added === 0) return kept;
  const result = reshape(kept, shape);
  discard(kept);
  return result;
}
