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
  allowTf32: field.flag,
  y: field.output,
  preactivation: field.output,
});

interface State {
  activation: Activation;
  allowTf32: boolean;
}

const linearOperator = defineOperator({
  name: 'linear',
  forward(
    ctx: Context<State>,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    activation: Activation,
    allowTf32: boolean,
  ): Tensor {
    ctx.state = { activation, allowTf32 };
    const keep = ctx.needs.includes(true) ? keeps(activation) : 'nothing';
    const { y, preactivation } = linearCall({
      x,
      weight,
      bias,
      activation,
      keepPreactivation: keep === 'preactivation',
      allowTf32,
    });
    ctx.save(x, weight);
    if (keep === 'output') ctx.save(y);
    if (keep === 'preactivation') ctx.own(preactivation);
    return y;
  },
  backward(ctx, gradY) {
    if (!gradY) return [null, null, null, null, null];
    const { activation, allowTf32 } = ctx.state;
    const [x, weight, kept] = ctx.saved() as [Tensor, Tensor, Tensor | undefined];
    const [needsX, needsWeight, needsBias] = ctx.needs;
    const { product, bias } = throughActivation(gradY, kept, activation, !!needsBias);
    const gradX = needsX
      ? productLike(x, product, weight, { transposeA: false, transposeB: false }, allowTf32)
      : null;
    const gradWeight = needsWeight
      ? productLike(weight, product, x, { transposeA: true, transposeB: false }, allowTf32)
      : null;
    if (product !== gradY) product.dispose();
    return [gradX, gradWeight, bias, null, null];
  },
}) as (
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  activation: Activation,
  allowTf32: boolean,
) => Tensor;

/** Options of {@link linear}. */
export interface LinearOptions {
  /** Applied last, in the same pass. Default `none`. */
  activation?: Activation;
  /**
   * Lets a GPU round f32 operands to TF32 (10 bits of fraction) and multiply them on its tensor cores,
   * several times as fast, here and in the gradients; sums stay f32. Other dtypes and the CPU ignore it.
   * Default `false`.
   */
  allowTf32?: boolean;
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
  checkOptions('linear', options, ['activation', 'allowTf32']);
  const { activation = 'none', allowTf32 = false } = options;
  checkActivation('linear', activation);
  return linearOperator(x, weight, bias, activation, allowTf32);
}
