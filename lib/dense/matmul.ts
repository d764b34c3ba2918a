import { type Context, defineOperator, isRecording } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { reshape } from '../core/views.js';
import {
  type Activation,
  activations,
  checkActivation,
  keeps,
  throughActivation,
} from './activation-backward.js';

const matmulCall = nativeOperator('matmul', {
  a: field.input,
  b: field.input,
  bias: field.optional,
  transposeA: field.flag,
  transposeB: field.flag,
  summed: field.integers,
  activation: field.choice(...activations),
  keepPreactivation: field.flag,
  allowTf32: field.flag,
  y: field.output,
  preactivation: field.output,
});

interface Product extends Transpositions {
  /** Axes of the broadcast batch that are summed over. */
  summed: readonly number[];
  allowTf32: boolean;
}

interface Transpositions {
  transposeA: boolean;
  transposeB: boolean;
}

/** The matrix product with everything that gradients of any order need. */
const productOperator = defineOperator({
  name: 'matmul',
  composed: true,
  forward(ctx: Context<Product>, a: Tensor, b: Tensor, how: Product): Tensor {
    ctx.state = how;
    const { y } = matmulCall({ a, b, ...how, activation: 'none', keepPreactivation: false });
    ctx.save(a, b);
    return y;
  },
  backward(ctx, grad) {
    if (!grad) return [null, null, null];
    const [a, b] = ctx.saved() as [Tensor, Tensor];
    const { transposeA, transposeB, summed, allowTf32 } = ctx.state;
    const rank = Math.max(a.rank, b.rank) - 2;
    const g = summed.length === 0 ? grad : withSummedAxes(grad, rank, summed);
    const [needsA, needsB] = ctx.needs;
    const gradA = needsA
      ? transposeA
        ? productLike(a, b, g, { transposeA: transposeB, transposeB: true }, allowTf32)
        : productLike(a, g, b, { transposeA: false, transposeB: !transposeB }, allowTf32)
      : null;
    const gradB = needsB
      ? transposeB
        ? productLike(b, g, a, { transposeA: true, transposeB: transposeA }, allowTf32)
        : productLike(b, a, g, { transposeA: !transposeA, transposeB: false }, allowTf32)
      : null;
    if (g !== grad && !isRecording()) g.dispose();
    return [gradA, gradB, null];
  },
}) as (a: Tensor, b: Tensor, how: Product) => Tensor;

/** `grad` with the summed batch axes put back as axes of length 1. */
function withSummedAxes(grad: Tensor, rank: number, summed: readonly number[]): Tensor {
  const shape: number[] = [];
  let from = 0;
  for (let i = 0; i < rank; i++)
    shape.push(summed.includes(i) ? 1 : (grad.shape[from++] as number));
  return reshape(grad, [...shape, ...grad.shape.slice(-2)]);
}

/**
 * @internal a b summed over the batch axes that `operand` is broadcast along: the gradient of `operand`.
 */
export function productLike(
  operand: Tensor,
  a: Tensor,
  b: Tensor,
  how: Transpositions,
  allowTf32: boolean,
): Tensor {
  const rank = Math.max(a.rank, b.rank) - 2;
  const summed: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const own = batchLength(operand, rank, axis);
    const product = [batchLength(a, rank, axis), batchLength(b, rank, axis)];
    if (own === undefined || (own === 1 && product.some((d) => d !== undefined && d !== 1))) {
      summed.push(axis);
    }
  }
  const y = productOperator(a, b, { ...how, summed, allowTf32 });
  if (y.rank === operand.rank) return y;
  const shaped = reshape(y, operand.shape);
  if (!isRecording()) y.dispose();
  return shaped;
}

/** Length of `axis` of a batch of `rank` axes, undefined where `t` has no such axis. */
function batchLength(t: Tensor, rank: number, axis: number): number | undefined {
  const own = axis - (rank - (t.rank - 2));
  return own < 0 ? undefined : t.shape[own];
}

interface Fused {
  activation: Activation;
  allowTf32: boolean;
}

const fusedOperator = defineOperator({
  name: 'matmul',
  forward(
    ctx: Context<Fused>,
    a: Tensor,
    b: Tensor,
    bias: Tensor | null,
    activation: Activation,
    allowTf32: boolean,
  ): Tensor {
    ctx.state = { activation, allowTf32 };
    const keep = ctx.needs.includes(true) ? keeps(activation) : 'nothing';
    const { y, preactivation } = matmulCall({
      a,
      b,
      bias,
      transposeA: false,
      transposeB: false,
      summed: [],
      activation,
      keepPreactivation: keep === 'preactivation',
      allowTf32,
    });
    ctx.save(a, b);
    if (keep === 'output') ctx.save(y);
    if (keep === 'preactivation') ctx.own(preactivation);
    return y;
  },
  backward(ctx, gradY) {
    if (!gradY) return [null, null, null, null, null];
    const { activation, allowTf32 } = ctx.state;
    const [a, b, kept] = ctx.saved() as [Tensor, Tensor, Tensor | undefined];
    const [needsA, needsB, needsBias] = ctx.needs;
    const { product, bias } = throughActivation(gradY, kept, activation, !!needsBias);
    const gradA = needsA
      ? productLike(a, product, b, { transposeA: false, transposeB: true }, allowTf32)
      : null;
    const gradB = needsB
      ? productLike(b, a, product, { transposeA: true, transposeB: false }, allowTf32)
      : null;
    if (product !== gradY) product.dispose();
    return [gradA, gradB, bias, null, null];
  },
}) as (
  a: Tensor,
  b: Tensor,
  bias: Tensor | null,
  activation: Activation,
  allowTf32: boolean,
) => Tensor;

/** Options of {@link matmul}. */
export interface MatmulOptions {
  /** Added to every row of the product, [N]. */
  bias?: Tensor | null;
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
 * The matrix product a b, for every element of the batch axes, which broadcast by NumPy's rules. Operands
 * are read by their strides, so `transpose()`d and sliced views cost no copy. 16-bit floats are multiplied
 * and summed in f32, as one chain over K, and rounded once.
 *
 * Without bias and activation it can be differentiated any number of times.
 *
 * @param a [..., M, K], floating
 * @param b [..., K, N], of the dtype of `a`
 * @returns [..., M, N]; zeros (plus bias) for K = 0
 * @throws ArgumentError for vectors, for dtypes that differ, and for shapes that do not fit
 * @example
 * const scores = matmul(ones([2, 3, 4]), ones([4, 5]), { activation: 'relu' }); // [2, 3, 5]
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  checkOptions('matmul', options, ['bias', 'activation', 'allowTf32']);
  const { bias = null, activation = 'none', allowTf32 = false } = options;
  checkActivation('matmul', activation);
  if (bias === null && activation === 'none') {
    return productOperator(a, b, { transposeA: false, transposeB: false, summed: [], allowTf32 });
  }
  return fusedOperator(a, b, bias, activation, allowTf32);
}
