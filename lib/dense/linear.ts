import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import {
  type Activation,
  activations,
  checkActivation,
  keeps,
  throughActivation,
} from './activation-backward.js';
import { productLike } from './matmul.js';

const linearCall = nativeOperator('linear', {
  x: field.input,
  weight: field.input,
  bias: field.optional,
  activation: field.choice(...activations),
  keepPreactivation: field.flag,
  y: field.output,
  preactivation: field.output,
});

const linearOperator = defineOperator({
  name: 'linear',
  forward(
    ctx: Context<Activation>,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    activation: Activation,
  ): Tensor {
    ctx.state = activation;
    const keep = ctx.needs.includes(true) ? keeps(activation) : 'nothing';
    const { y, preactivation } = linearCall({
      x,
      weight,
      bias,
      activation,
      keepPreactivation: keep === 'preactivation',
    });
    ctx.save(x, weight);
    if (keep === 'output') ctx.save(y);
    if (keep === 'preactivation') ctx.own(preactivation);
    return y;
  },
  backward(ctx, gradY) {
    if (!gradY) return [null, null, null, null];
    const [x, weight, kept] = ctx.saved() as [Tensor, Tensor, Tensor | undefined];
    const [needsX, needsWeight, needsBias] = ctx.needs;
    const { product, bias } = throughActivation(gradY, kept, ctx.state, !!needsBias);
    const gradX = needsX
      ? productLike(x, product, weight, { transposeA: false, transposeB: false })
      : null;
    const gradWeight = needsWeight
      ? productLike(weight, product, x, { transposeA: true, transposeB: false })
      : null;
    if (product !== gradY) product.dispose();
    return [gradX, gradWeight, bias, null];
  },
}) as (x: Tensor, weight: Tensor, bias: Tensor | null, activation: Activation) => Tensor;

/** Options of {@link linear}. */
export interface LinearOptions {
  /** Applied last, in the same pass. Default `none`. */
  activation?: Activation;
}

/**
 * A fully connected layer, y = activation(x weight^T + bias), with the weight as PyTorch stores it.
 *
 * @param x [..., in], floating
 * @param weight [out, in], of the dtype of `x`
 * @param bias [out], or absent
 * @returns [..., out]
 * @throws ArgumentError for dtypes that differ and shapes that do not fit
 * @example
 * const y = linear(ones([2, 10, 4]), ones([8, 4]), zeros([8]), { activation: 'gelu' }); // [2, 10, 8]
 */
export function linear(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: LinearOptions = {},
): Tensor {
  checkOptions('linear', options, ['activation']);
  const { activation = 'none' } = options;
  checkActivation('linear', activation);
  return linearOperator(x, weight, bias, activation);
}
