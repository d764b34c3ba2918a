/** Reading and adding at places given by an index tensor. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator } from '../core/declare.js';
import { full } from '../core/primitives.js';
import type { Shape, Tensor } from '../core/tensor.js';
import { axisOf } from '../core/views.js';
import { discard } from './temporary.js';

const gatherCall = nativeOperator('gather', {
  x: field.input,
  axis: field.integer,
  index: field.input,
  y: field.output,
});

const scatterAddCall = nativeOperator('scatterAdd', {
  x: field.input,
  axis: field.integer,
  index: field.input,
  source: field.input,
  y: field.output,
});

const gatherOperator: (x: Tensor, axis: number, index: Tensor) => Tensor = defineOperator({
  name: 'gather',
  composed: true,
  forward(
    ctx: Context<{ shape: Shape; axis: number }>,
    x: Tensor,
    axis: number,
    index: Tensor,
  ): Tensor {
    const { y } = gatherCall({ x, axis, index });
    ctx.state = { shape: x.shape, axis };
    ctx.save(index);
    return y;
  },
  backward(ctx, grad) {
    if (!grad) return [null];
    const [index] = ctx.saved() as [Tensor];
    return [scatterInto(ctx.state.shape, ctx.state.axis, index, grad)];
  },
});

/** @internal Zeros of `shape` with `source` added at the places of `index`. */
export function scatterInto(shape: Shape, axis: number, index: Tensor, source: Tensor): Tensor {
  const zero = full(shape, 0, { dtype: source.dtype, device: source.device });
  const result = scatterAddOperator(zero, axis, index, source);
  discard(zero);
  return result;
}

/**
 * y[.., i, ..] = x[.., index[.., i, ..], ..] along `axis`.
 *
 * @param index i32 with as many axes as `x`, beside `axis` not longer than `x`; gives the shape
 * @returns poisoned with an OperatorError that names the index when one is out of range; on a GPU, which
 *   cannot stop for it, NaN there (-1 in integers)
 * @throws ArgumentError for a wrong rank, shape or dtype
 * @example
 * gather(tensor([[1, 2], [3, 4]]), 1, tensor(new Int32Array([1, 0]), { shape: [2, 1] })); // [[2], [3]]
 */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  return gatherOperator(x, axisOf('gather', 'axis', axis, asTensor('gather', 'x', x).rank), index);
}

const scatterAddOperator: (x: Tensor, axis: number, index: Tensor, source: Tensor) => Tensor =
  defineOperator({
    name: 'scatterAdd',
    composed: true,
    forward(ctx: Context<number>, x: Tensor, axis: number, index: Tensor, source: Tensor): Tensor {
      const { y } = scatterAddCall({ x, axis, index, source });
      ctx.state = axis;
      ctx.save(index);
      return y;
    },
    backward(ctx, grad) {
      const [index] = ctx.saved() as [Tensor];
      return [
        grad,
        null,
        null,
        grad && ctx.needs[3] ? gatherOperator(grad, ctx.state, index) : null,
      ];
    },
  });

/**
 * A copy of `x` with `source` added: element [.., i, ..] goes to [.., index[.., i, ..], ..] along `axis`.
 * Elements that meet are added in order, so the result is the same in every run.
 *
 * @param index i32, as in {@link gather}
 * @param source of the dtype of `x` and the shape of `index`
 * @returns poisoned with an OperatorError that names the index when one is out of range; on a GPU its
 *   source is left out
 * @throws ArgumentError for a wrong rank, shape or dtype
 * @example
 * scatterAdd(zeros([3]), 0, tensor(new Int32Array([2, 2])), tensor([1, 10])); // 0, 0, 11
 */
export function scatterAdd(x: Tensor, axis: number, index: Tensor, source: Tensor): Tensor {
  const at = axisOf('scatterAdd', 'axis', axis, asTensor('scatterAdd', 'x', x).rank);
  return scatterAddOperator(x, at, index, source);
}
