import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const forwardCall = nativeOperator('layerNorm', {
  x: field.input,
  residual: field.optional,
  weight: field.optional,
  bias: field.optional,
  eps: field.number,
  unbiased: field.flag,
  y: field.output,
  sum: field.output,
  mean: field.output,
  scale: field.output,
});

const backwardCall = nativeOperator('layerNormBackward', {
  gradY: field.input,
  gradSum: field.optional,
  s: field.input,
  weight: field.optional,
  mean: field.input,
  scale: field.input,
  eps: field.number,
  unbiased: field.flag,
  wantS: field.flag,
  wantWeight: field.flag,
  wantBias: field.flag,
  gradS: field.output,
  gradWeight: field.output,
  gradBias: field.output,
});

interface State {
  eps: number;
  unbiased: boolean;
}
type MaybeTensor = Tensor | null | undefined;

const layerNormOperator = defineOperator({
  name: 'layerNorm',
  forward(
    ctx: Context<State>,
    x: Tensor,
    residual: MaybeTensor,
    weight: MaybeTensor,
    bias: MaybeTensor,
    state: State,
  ): Tensor[] {
    ctx.state = state;
    const { y, sum, mean, scale } = forwardCall({ x, residual, weight, bias, ...state });
    ctx.own(mean, scale);
    ctx.save(residual ? sum : x);
    if (weight) ctx.save(weight);
    return residual ? [y, sum] : [y];
  },
  backward(ctx, gradY, gradSum) {
    const [mean, scale, s, weight] = ctx.saved() as [Tensor, Tensor, Tensor, Tensor | undefined];
    const [wantX, wantResidual, wantWeight, wantBias] = ctx.needs as [
      boolean,
      boolean,
      boolean,
      boolean,
    ];
    const forS = (g: Tensor | null | undefined) => [wantX ? g : null, wantResidual ? g : null];
    if (!gradY) return [...forS(gradSum), null, null, null];
    const wantS = wantX || wantResidual;
    const { gradS, gradWeight, gradBias } = backwardCall({
      gradY,
      gradSum,
      s,
      weight,
      mean,
      scale,
      ...ctx.state,
      wantS,
      wantWeight,
      wantBias,
    });
    return [...forS(gradS), gradWeight, gradBias, null];
  },
});

/** Options of {@link layerNorm}. */
export interface LayerNormOptions {
  /** Added to the variance (to the deviation if `unbiased`). Default 1e-5. */
  eps?: number;
  /** Added to `x` before the norm, in the same pass; the sum is returned beside the result. */
  residual?: Tensor;
  /**
   * Divide by (deviation over n - 1) + eps, as "The Annotated Transformer" does, instead of
   * sqrt(variance over n + eps). Default false.
   */
  unbiased?: boolean;
}

/**
 * Layer normalisation over the last axis (Ba et al. 2016):
 * y = (s - mean) / sqrt(var + eps) * weight + bias, with s = x, or s = x + residual.
 *
 * @param x floating, [..., D]. Statistics are f32 (f64 for f64) whatever its dtype.
 * @param weight [D], any floating dtype; absent: 1
 * @param bias [D], dtype of `weight`; absent: 0
 * @returns y of the shape and dtype of `x`; with `residual` the pair [y, s]
 * @throws ArgumentError for shapes or dtypes that do not fit
 * @example
 * const y = layerNorm(normal([2, 8]), ones([8]), zeros([8]));
 * const [z, stream] = layerNorm(y, ones([8]), zeros([8]), { residual: normal([2, 8]) });
 */
export function layerNorm(
  x: Tensor,
  weight: MaybeTensor,
  bias: MaybeTensor,
  options: LayerNormOptions & { residual: Tensor },
): [y: Tensor, s: Tensor];
export function layerNorm(
  x: Tensor,
  weight?: MaybeTensor,
  bias?: MaybeTensor,
  options?: LayerNormOptions & { residual?: undefined },
): Tensor;
export function layerNorm(
  x: Tensor,
  weight?: MaybeTensor,
  bias?: MaybeTensor,
  options: LayerNormOptions = {},
): Tensor | [Tensor, Tensor] {
  checkOptions('layerNorm', options, ['eps', 'residual', 'unbiased']);
  const { eps = 1e-5, residual, unbiased = false } = options;
  const [y, s] = layerNormOperator(x, residual, weight, bias, { eps, unbiased }) as Tensor[];
  return residual ? [y as Tensor, s as Tensor] : (y as Tensor);
}
