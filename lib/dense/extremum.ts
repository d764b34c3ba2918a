/** Largest and smallest elements, and where they are. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Shape, Tensor } from '../core/tensor.js';
import { type AxesArgument, axesOf } from './axes.js';
import type { ReduceOptions } from './sum.js';

const extremumCall = nativeOperator('extremum', {
  x: field.input,
  kind: field.choice('max', 'min'),
  axes: field.integers,
  keepDims: field.flag,
  wantValue: field.flag,
  wantIndex: field.flag,
  y: field.output,
  index: field.output,
});

const extremumBackwardCall = nativeOperator('extremumBackward', {
  gradY: field.input,
  index: field.input,
  shape: field.integers,
  axes: field.integers,
  gradX: field.output,
});

type Extreme = 'max' | 'min';

function extremeOf(
  kind: Extreme,
): (x: Tensor, axes: readonly number[], keepDims: boolean) => Tensor {
  return defineOperator({
    name: kind,
    forward(
      ctx: Context<{ shape: Shape; axes: readonly number[] }>,
      x: Tensor,
      axes: readonly number[],
      keepDims: boolean,
    ): Tensor {
      ctx.state = { shape: x.shape, axes };
      const wantIndex = ctx.needs[0] ?? false;
      const call = { x, kind, axes, keepDims, wantValue: true, wantIndex };
      const { y, index } = extremumCall(call, undefined, kind);
      if (wantIndex) ctx.own(index);
      return y;
    },
    backward(ctx, gradY) {
      if (!gradY) return [null];
      const [index] = ctx.saved() as [Tensor];
      const { shape, axes } = ctx.state;
      return [extremumBackwardCall({ gradY, index, shape, axes }).gradX];
    },
  });
}

const maxOperator = extremeOf('max');
/**
 * Largest element over axes, by default over all; NaN where there is one. The gradient goes to the first
 * of equal elements.
 *
 * @throws ArgumentError for empty axes and for axes that do not exist or repeat
 * @example
 * max(tensor([[1, 5], [7, 2]]), 1); // 5, 7
 */
export function max(x: Tensor, axes?: AxesArgument, options: ReduceOptions = {}): Tensor {
  checkOptions('max', options, ['keepDims']);
  return maxOperator(x, axesOf('max', x, axes), options.keepDims ?? false);
}

const minOperator = extremeOf('min');
/**
 * Smallest element over axes; see {@link max}.
 * @example
 * min(tensor([[1, 5], [7, 2]]), 0); // 1, 2
 */
export function min(x: Tensor, axes?: AxesArgument, options: ReduceOptions = {}): Tensor {
  checkOptions('min', options, ['keepDims']);
  return minOperator(x, axesOf('min', x, axes), options.keepDims ?? false);
}

function position(
  operator: 'argmax' | 'argmin',
  x: Tensor,
  axis: number | null | undefined,
  options: ReduceOptions,
): Tensor {
  checkOptions(operator, options, ['keepDims']);
  const call = {
    x,
    kind: operator === 'argmax' ? ('max' as const) : ('min' as const),
    axes: axesOf(operator, x, axis),
    keepDims: options.keepDims ?? false,
    wantValue: false,
    wantIndex: true,
  };
  return extremumCall(call, undefined, operator).index;
}

/**
 * Position of the largest element along an axis, as i32; without an axis, its position in row-major order.
 * The first of equal elements wins, and NaN beats every number.
 *
 * @throws ArgumentError for an empty axis and for one that does not exist
 * @example
 * argmax(tensor([[1, 5], [7, 2]]), 1); // 1, 0
 */
export function argmax(x: Tensor, axis?: number | null, options: ReduceOptions = {}): Tensor {
  return position('argmax', x, axis, options);
}

/**
 * Position of the smallest element along an axis; see {@link argmax}.
 * @example
 * argmin(tensor([[1, 5], [7, 2]]), 1); // 0, 1
 */
export function argmin(x: Tensor, axis?: number | null, options: ReduceOptions = {}): Tensor {
  return position('argmin', x, axis, options);
}
