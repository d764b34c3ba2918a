/** Sorting and selection along an axis. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Shape, Tensor } from '../core/tensor.js';
import { axisOf } from '../core/views.js';
import { scatterInto } from './gather.js';

const sortCall = nativeOperator('sort', {
  x: field.input,
  axis: field.integer,
  descending: field.flag,
  values: field.output,
  indices: field.output,
});

const topKCall = nativeOperator('topK', {
  x: field.input,
  k: field.integer,
  axis: field.integer,
  largest: field.flag,
  values: field.output,
  indices: field.output,
});

/** Elements in order, and their positions along the axis, as i32. */
export interface Ordered {
  values: Tensor;
  indices: Tensor;
}

/** Both operators pick distinct elements, so gradients go back to their places. */
function picking<A extends unknown[]>(
  name: string,
  call: (x: Tensor, axis: number, ...rest: A) => Ordered,
): (x: Tensor, axis: number, ...rest: A) => Ordered {
  const operator = defineOperator({
    name,
    composed: true,
    forward(
      ctx: Context<{ shape: Shape; axis: number }>,
      x: Tensor,
      axis: number,
      ...rest: A
    ): readonly Tensor[] {
      ctx.state = { shape: x.shape, axis };
      const { values, indices } = call(x, axis, ...rest);
      // A handle of its own: the caller may dispose the indices.
      if (ctx.needs[0]) ctx.own(indices.detach());
      return [values, indices];
    },
    backward(ctx, grad) {
      if (!grad) return [null];
      const [indices] = ctx.saved() as [Tensor];
      return [scatterInto(ctx.state.shape, ctx.state.axis, indices, grad)];
    },
  });
  return (...args) => {
    const [values, indices] = operator(...args) as [Tensor, Tensor];
    return { values, indices };
  };
}

const sortOperator = picking('sort', (x, axis, descending: boolean) =>
  sortCall({ x, axis, descending }),
);

/**
 * Elements along an axis in ascending order; equal elements keep their order. NaN is larger than any number.
 *
 * @param options.axis default: the last
 * @param options.descending largest first. Default false
 * @throws ArgumentError for an axis that does not exist
 * @example
 * sort(tensor([3, 1, 2])).indices; // 1, 2, 0
 */
export function sort(x: Tensor, options: { axis?: number; descending?: boolean } = {}): Ordered {
  checkOptions('sort', options, ['axis', 'descending']);
  return sortOperator(
    x,
    axisOf('sort', 'axis', options.axis ?? -1, asTensor('sort', 'x', x).rank),
    options.descending ?? false,
  );
}

const topKOperator = picking('topK', (x, axis, k: number, largest: boolean) =>
  topKCall({ x, k, axis, largest }),
);

/**
 * The k largest elements along an axis, largest first; of equal elements the earlier comes first.
 *
 * @param k from 0 to the length of the axis
 * @param options.axis default: the last
 * @param options.largest false for the smallest, smallest first. Default true
 * @throws ArgumentError for k out of range or an axis that does not exist
 * @example
 * topK(tensor([3, 1, 2]), 2).values; // 3, 2
 */
export function topK(
  x: Tensor,
  k: number,
  options: { axis?: number; largest?: boolean } = {},
): Ordered {
  checkOptions('topK', options, ['axis', 'largest']);
  return topKOperator(
    x,
    axisOf('topK', 'axis', options.axis ?? -1, asTensor('topK', 'x', x).rank),
    k,
    options.largest ?? true,
  );
}
