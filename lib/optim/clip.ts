import { asTensor, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import { full } from '../core/primitives.js';
import type { Tensor } from '../core/tensor.js';
import {
  clampTensors,
  clipCoefficient,
  type GradNormOptions,
  gradNorm,
  scaleTensors,
} from '../dense/optimizer.js';

function gradients(operator: string, params: Iterable<Tensor>): Tensor[] {
  if (typeof params?.[Symbol.iterator] !== 'function') {
    const remedy = 'Pass parameters, for example model.parameters()';
    throw new ArgumentError('ERR_VALUE', operator, 'params', show(params), remedy);
  }
  return [...params].flatMap((p, i) => asTensor(operator, `params[${i}]`, p).grad ?? []);
}

/**
 * Scales the gradients of `params`, in place, so that their norm over all elements stays below
 * `maxNorm`: by min(1, maxNorm / (norm + 1e-6)), as PyTorch does.
 *
 * @param options.order 2 (default) or Infinity
 * @returns the norm before, a scalar; 0 when there is no gradient
 * @example
 * const w = ones([2]).requireGrad();
 * backward(crossEntropy(w, tensor(0, { dtype: 'i32' })));
 * const norm = clipGradNorm([w], 1);
 */
export function clipGradNorm(
  params: Iterable<Tensor>,
  maxNorm: number,
  options: Pick<GradNormOptions, 'order'> = {},
): Tensor {
  checkOptions('clipGradNorm', options, ['order']);
  const { order } = options;
  const grads = gradients('clipGradNorm', params);
  if (grads.length === 0) return full([], 0);
  const { norm, nonFinite } = gradNorm(grads, order === undefined ? {} : { order });
  nonFinite.dispose();
  const coefficient = clipCoefficient(norm, maxNorm);
  scaleTensors(grads, coefficient);
  coefficient.dispose();
  return norm;
}

/**
 * Moves every element of the gradients of `params` into [-limit, limit], in place.
 *
 * @example
 * const w = tensor([3, -4]).requireGrad();
 * backward(sum(mul(w, w)));
 * clipGradValue([w], 5);
 * console.log(w.grad?.dataSync()); // 5, -5
 */
export function clipGradValue(params: Iterable<Tensor>, limit: number): void {
  const grads = gradients('clipGradValue', params);
  if (grads.length > 0) clampTensors(grads, limit);
}
