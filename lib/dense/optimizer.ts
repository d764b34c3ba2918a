/** Optimizer arithmetic over lists of tensors, each call one native operator. `lib/optim` drives it. */
import { field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const adamStepCall = nativeOperator('adamStep', {
  params: field.inouts,
  grads: field.inputs,
  means: field.inouts,
  squares: field.inouts,
  maxSquares: field.optionalInouts,
  masters: field.optionalInouts,
  lr: field.input,
  step: field.inout,
  gradScale: field.optional,
  skip: field.optional,
  beta1: field.number,
  beta2: field.number,
  eps: field.number,
  weightDecay: field.number,
  decoupled: field.flag,
});

const sgdStepCall = nativeOperator('sgdStep', {
  params: field.inouts,
  grads: field.inputs,
  buffers: field.optionalInouts,
  masters: field.optionalInouts,
  lr: field.input,
  step: field.inout,
  gradScale: field.optional,
  skip: field.optional,
  momentum: field.number,
  dampening: field.number,
  weightDecay: field.number,
  nesterov: field.flag,
});

const gradNormCall = nativeOperator('gradNorm', {
  tensors: field.inputs,
  scale: field.optional,
  largest: field.flag,
  norm: field.output,
  nonFinite: field.output,
});

const clipCoefficientCall = nativeOperator('clipCoefficient', {
  norm: field.input,
  scale: field.optional,
  maxNorm: field.number,
  coefficient: field.output,
});

const scaleTensorsCall = nativeOperator('scaleTensors', {
  tensors: field.inouts,
  factor: field.input,
});

const clampTensorsCall = nativeOperator('clampTensors', {
  tensors: field.inouts,
  limit: field.number,
});

function written(...lists: (Tensor | readonly Tensor[])[]): void {
  for (const t of lists.flat()) t.storage.version++;
}

/** @internal What every step takes; lists have one tensor per parameter, or none where optional. */
export interface StepArguments {
  params: readonly Tensor[];
  grads: readonly Tensor[];
  masters: readonly Tensor[];
  lr: Tensor;
  step: Tensor;
  gradScale: Tensor | undefined;
  skip: Tensor | undefined;
  weightDecay: number;
}

/** @internal */
export interface AdamStepArguments extends StepArguments {
  means: readonly Tensor[];
  squares: readonly Tensor[];
  maxSquares: readonly Tensor[];
  beta1: number;
  beta2: number;
  eps: number;
  decoupled: boolean;
}

/** @internal */
export interface SgdStepArguments extends StepArguments {
  buffers: readonly Tensor[];
  momentum: number;
  dampening: number;
  nesterov: boolean;
}

/** @internal One Adam step of all `params`, in place; see cpp/ops/dense/optimizer.h. */
export function adamStep(args: AdamStepArguments): void {
  adamStepCall(args);
  const { params, means, squares, maxSquares, masters, step } = args;
  written(params, means, squares, maxSquares, masters, step);
}

/** @internal One SGD step of all `params`, in place; see cpp/ops/dense/optimizer.h. */
export function sgdStep(args: SgdStepArguments): void {
  sgdStepCall(args);
  written(args.params, args.buffers, args.masters, args.step);
}

/** Which norm of the gradients, and of what. */
export interface GradNormOptions {
  /** 2: Euclidean over all elements; Infinity: the largest magnitude. Default 2. */
  order?: 2 | typeof Infinity;
  /** One element on the device; the norm is multiplied by its magnitude (1 / loss scale, say). */
  scale?: Tensor;
}

/**
 * Norm over all elements of all tensors together, summed in f64 in a fixed order.
 *
 * @returns `norm`, f32 (f64 when a tensor is), and `nonFinite`, f32, both scalars: 1 when an element is infinite or NaN
 * @example
 * const { norm } = gradNorm([tensor([3, 0]), tensor([4])]);
 * norm.itemSync(); // 5
 */
export function gradNorm(
  tensors: readonly Tensor[],
  options: GradNormOptions = {},
): { norm: Tensor; nonFinite: Tensor } {
  checkOptions('gradNorm', options, ['order', 'scale']);
  const { order = 2, scale } = options;
  if (order !== 2 && order !== Number.POSITIVE_INFINITY) {
    throw new ArgumentError('ERR_OPTION', 'gradNorm', 'order', show(order), 'Use 2 or Infinity');
  }
  return gradNormCall({ tensors, scale, largest: order !== 2 });
}

/**
 * min(1, maxNorm / (norm + 1e-6)), times `scale` where given: what gradients are multiplied by so that
 * their norm stays below `maxNorm`. `Optimizer.step({ gradScale })` takes it.
 *
 * @param norm one element
 * @returns a scalar, dtype f32 (f64 for a norm in f64)
 * @example
 * clipCoefficient(tensor([5]), 1).itemSync(); // 0.2
 */
export function clipCoefficient(norm: Tensor, maxNorm: number, scale?: Tensor): Tensor {
  return clipCoefficientCall({ norm, scale, maxNorm }).coefficient;
}

/** @internal Multiplies tensors in place by the one element of `factor`. */
export function scaleTensors(tensors: readonly Tensor[], factor: Tensor): void {
  scaleTensorsCall({ tensors, factor });
  written(tensors);
}

/** @internal Moves every element into [-limit, limit], in place. */
export function clampTensors(tensors: readonly Tensor[], limit: number): void {
  clampTensorsCall({ tensors, limit });
  written(tensors);
}
