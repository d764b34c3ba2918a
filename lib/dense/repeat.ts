/** Copies along axes, and reversal. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import type { Tensor } from '../core/tensor.js';
import { axisOf, reshape } from '../core/views.js';
import { expand } from './sum.js';
import { discardViews } from './temporary.js';

function counts(operator: string, argument: string, list: readonly number[]): void {
  if (!Array.isArray(list) || !list.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      argument,
      show(list),
      'Use whole numbers, 0 or more',
    );
  }
}

/**
 * Each element `count` times in a row along an axis.
 *
 * @throws ArgumentError for an axis that does not exist
 * @example
 * repeat(tensor([1, 2]), 2, 0); // 1, 1, 2, 2
 */
export function repeat(x: Tensor, count: number, axis: number): Tensor {
  const at = axisOf('repeat', 'axis', axis, asTensor('repeat', 'x', x).rank);
  counts('repeat', 'count', [count]);
  const [before, after] = [x.shape.slice(0, at + 1), x.shape.slice(at + 1)];
  const apart = reshape(x, [...before, 1, ...after]);
  const wide = expand(apart, [...before, count, ...after]);
  const result = reshape(
    wide,
    x.shape.map((d, i) => (i === at ? d * count : d)),
  );
  discardViews(apart, wide);
  return result;
}

/**
 * The whole tensor `repeats[i]` times along axis i; repeats beyond its axes come first, as in NumPy.
 *
 * @throws ArgumentError for fewer repeats than axes
 * @example
 * tile(tensor([1, 2]), [2]); // 1, 2, 1, 2
 */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  asTensor('tile', 'x', x);
  counts('tile', 'repeats', repeats);
  const added = repeats.length - x.rank;
  if (added < 0) {
    throw new ArgumentError(
      'ERR_VALUE',
      'tile',
      'repeats',
      show(repeats),
      `Give one count for each of the ${x.rank} axes`,
    );
  }
  const shape = repeats.map((_, i) => (i < added ? 1 : (x.shape[i - added] as number)));
  const apart = reshape(
    x,
    shape.flatMap((d) => [1, d]),
  );
  const wide = expand(
    apart,
    shape.flatMap((d, i) => [repeats[i] as number, d]),
  );
  const result = reshape(
    wide,
    shape.map((d, i) => d * (repeats[i] as number)),
  );
  discardViews(apart, wide);
  return result;
}

const flipOperator: (x: Tensor, axis: number) => Tensor = defineOperator({
  name: 'flip',
  composed: true,
  forward(ctx: Context<number>, x: Tensor, axis: number): Tensor {
    ctx.state = axis;
    const [length, stride] = [x.shape[axis] as number, x.strides[axis] as number];
    return x.viewAs(
      x.shape,
      x.strides.map((s, i) => (i === axis ? -s : s)),
      x.offset + Math.max(0, length - 1) * stride,
    );
  },
  backward(ctx, grad) {
    return [grad && flipOperator(grad, ctx.state)];
  },
});

/**
 * The elements along an axis in reverse. A view.
 *
 * @example
 * flip(tensor([1, 2, 3]), 0); // 3, 2, 1
 */
export function flip(x: Tensor, axis: number): Tensor {
  return flipOperator(x, axisOf('flip', 'axis', axis, asTensor('flip', 'x', x).rank));
}
