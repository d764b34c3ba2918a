import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const forwardCall = nativeOperator('rmsNorm', {
  x: field.input,
  residual: field.optional,
  weight: field.optional,
  eps: field.number,
  y: field.output,
  sum: field.output,
  scale: field.output,
});

const backwardCall = nativeOperator('rmsNormBackward', {
  gradY: field.input,
  gradSum: field.optional,
  s: field.input,
  weight: field.optional,
  scale: field.input,
  wantS: field.flag,
  wantWeight: field.flag,
  gradS: field.output,
  gradWeight: field.output,
});

type MaybeTensor = Tensor | null | undefined;

const rmsNormOperator = defineOperator({
  name: 'rmsNorm',
  forward(
    ctx: Context,
    x: Tensor,
    residual: MaybeTensor,
    weight: MaybeTensor,
    eps: number,
  ): Tensor[] {
    const { y, sum, scale } = forwardCall({ x, residual, weight, eps });
    ctx.own(scale);
    ctx.save(residual ? sum : x);
    if (weight) ctx.save(weight);
    return residual ? [y, sum] : [y];
  },
  backward(ctx, gradY, gradSum) {
    const [scale, s, weight] = ctx.saved() as [Tensor, Tensor, Tensor | undefined];
    const [wantX, wantResidual, wantWeight] = ctx.needs as [boolean, boolean, boolean];
    const forS = (g: Tensor | null | undefined) => [wantX ? g : null, wantResidual ? g : null];
    if (!gradY) return [...forS(gradSum), null, null];
    const wantS = wantX || wantResidual;
    const { gradS, gradWeight } = backwardCall({
      gradY,
      gradSum,
      s,
      weight,
      scale,
      wantS,
      wantWeight,
    });
    return [...forS(gradS), gradWeight, null];
  },
});

/** Options of {@link rmsNorm}. */
export interface RmsNormOptions {
  /** Added to the mean square. Default 1e-6. */
  eps?: number;
  /** Added to `x` before the norm, in the same pass; the sum is returned beside the result. */
  residual?: Tensor;
}

/**
 * Root-mean-square normalisation over the last axis (Zhang and Sennrich 2019):
 * y = s / sqrt(mean(s^2) + eps) * weight, with s = x, or s = x + residual.
 *
 * @param x floating, [..., D]. Statistics are f32 (f64 for f64) whatever its dtype.
 * @param weight [D], any floating dtype; absent: 1
 * @returns y of the shape and dtype of `x`; with `residual` the pair [y, s]
 * @throws ArgumentError for shapes or dtypes that do not fit
 * @example
 * const [y, stream] = rmsNorm(normal([2, 8]), ones([8]), { residual: normal([2, 8]) });
 */
export function rmsNorm(
  x: Tensor,
  weight: MaybeTensor,
  options: RmsNormOptions & { residual: Tensor },
): [y: Tensor, s: Tensor];
export function rmsNorm(
  x: Tensor,
  weight?: MaybeTensor,
  options?: RmsNormOptions & { residual?: undefined },
): Tensor;
export function rmsNorm(
  x: Tensor,
  weight?: MaybeTensor,
  options: RmsNormOptions = {},
): Tensor | [Tensor, Tensor] {
  checkOptions('rmsNorm', options, ['eps', 'residual']);
  const { eps = 1e-6, residual } = options;
  const [y, s] = rmsNormOperator(x, residual, weight, eps) as Tensor[];
  return residual ? [y as Tensor, s as Tensor] : (y as Tensor);
}
