import { asTensor, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import type { Tensor } from '../core/tensor.js';
import { axisOf } from '../core/views.js';

/** One axis, several, or all. Negative axes count from the end. */
export type AxesArgument = number | readonly number[] | null | undefined;

/** Axes of the argument `x` as an ascending list; absent means all. */
export function axesOf(operator: string, x: Tensor, axes: AxesArgument): number[] {
  asTensor(operator, 'x', x);
  if (axes === undefined || axes === null) return x.shape.map((_, i) => i);
  if (typeof axes !== 'number' && !Array.isArray(axes)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'axes',
      show(axes),
      'Use an axis, a list of axes, or nothing for all of them',
    );
  }
  const list = (typeof axes === 'number' ? [axes] : axes).map((axis) =>
    axisOf(operator, 'axes', axis, x.rank),
  );
  if (new Set(list).size !== list.length) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'axes',
      show(axes),
      'Name each axis at most once',
    );
  }
  return list.sort((a, b) => a - b);
}
