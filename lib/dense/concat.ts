/** Joining tensors. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { Tensor } from '../core/tensor.js';
import { axisOf, slice, unsqueeze } from '../core/views.js';
import { discardViews } from './temporary.js';

const concatCall = nativeOperator('concat', {
  tensors: field.inputs,
  axis: field.integer,
  y: field.output,
});

const concatOperator: (tensors: readonly Tensor[], axis: number) => Tensor = defineOperator({
  name: 'concat',
  composed: true,
  forward(
    ctx: Context<{ lengths: number[]; axis: number }>,
    tensors: readonly Tensor[],
    axis: number,
  ): Tensor {
    ctx.state = { lengths: tensors.map((t) => t.shape[axis] as number), axis };
    return concatCall({ tensors, axis }).y;
  },
  backward(ctx, grad) {
    if (!grad) return [null];
    const { lengths, axis } = ctx.state;
    let start = 0;
    return [
      lengths.map((length) => {
        start += length;
        return slice(grad, axis, start - length, start);
      }),
    ];
  },
});

function first(operator: string, tensors: readonly Tensor[]): Tensor {
  const t = Array.isArray(tensors) ? tensors[0] : undefined;
  if (!(t instanceof Tensor)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'tensors',
      show(tensors),
      'Pass a list of at least one tensor',
    );
  }
  return t;
}

/**
 * Tensors one after another along an axis.
 *
 * @param tensors of one dtype, and of one shape beside `axis`
 * @throws ArgumentError when they do not fit together
 * @example
 * concat([tensor([1, 2]), tensor([3])]); // 1, 2, 3
 */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  return concatOperator(tensors, axisOf('concat', 'axis', axis, first('concat', tensors).rank));
}

/**
 * Tensors of one shape side by side along a new axis.
 *
 * @param axis where the new axis goes. Default 0
 * @throws ArgumentError when they do not fit together
 * @example
 * stack([tensor([1, 2]), tensor([3, 4])]).shape; // [2, 2]
 */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const at = axisOf('stack', 'axis', axis, first('stack', tensors).rank + 1);
  const views = tensors.map((t) => unsqueeze(t, at));
  const result = concatOperator(views, at);
  discardViews(...views);
  return result;
}
