import { type Context, defineOperator } from '../../core/autograd/index.js';
import { full } from '../../core/primitives.js';
import type { Shape, Tensor } from '../../core/tensor.js';
import { axisOf } from '../../core/views.js';
import { concat } from '../../dense/index.js';

interface Unpacked {
  readonly shapes: readonly Shape[];
  readonly axis: number;
}

const unpackOperator = defineOperator({
  name: 'unpack',
  composed: true,
  forward(
    ctx: Context<Unpacked>,
    x: Tensor,
    axis: number,
    sizes: readonly number[],
  ): readonly Tensor[] {
    const shapes = sizes.map((size) => x.shape.map((d, i) => (i === axis ? size : d)));
    ctx.state = { shapes, axis };
    let start = 0;
    return sizes.map((size, i) => {
      const offset = x.offset + start * (x.strides[axis] as number);
      start += size;
      return x.viewAs(shapes[i] as Shape, x.strides, offset);
    });
  },
  backward(ctx, ...gradients) {
    const { shapes, axis } = ctx.state;
    const given = gradients.find((g) => g) as Tensor;
    const made: Tensor[] = [];
    const parts = shapes.map((shape, i) => {
      const gradient = gradients[i];
      if (gradient) return gradient;
      const zero = full(shape, 0, { dtype: given.dtype, device: given.device });
      made.push(zero);
      return zero;
    });
    const packed = concat(parts, axis);
    for (const t of made) t.dispose();
    return [packed, null, null];
  },
}) as (x: Tensor, axis: number, sizes: readonly number[]) => readonly Tensor[];

/**
 * @internal Views of consecutive parts of an axis. Unlike `split`, its gradient is written once, as a
 * concatenation, instead of as the sum of a padded tensor per part.
 *
 * @param sizes lengths of the parts; their sum is the length of the axis
 */
export function unpack(x: Tensor, axis: number, sizes: readonly number[]): readonly Tensor[] {
  return unpackOperator(x, axisOf('unpack', 'axis', axis, x.rank), sizes);
}
