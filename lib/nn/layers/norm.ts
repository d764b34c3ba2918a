import { checkFlags, checkNumbers, checkOptions } from '../../core/options.js';
import { full } from '../../core/primitives.js';
import type { Tensor } from '../../core/tensor.js';
import { layerNorm, rmsNorm } from '../../dense/index.js';
import { Module } from '../module.js';
import { type Parameter, parameter } from '../parameter.js';
import {
  checkSizes,
  constantOptions,
  type LayerOptions,
  layerOptionNames,
  layerOptions,
} from './options.js';

/** What normalising a sum gives. */
export interface NormalisedSum {
  /** The normalised sum. */
  y: Tensor;
  /** The sum itself. */
  sum: Tensor;
}

/** A normalisation of the last axis. */
export abstract class Norm extends Module {
  /** @param x [..., width] */
  abstract forward(x: Tensor): Tensor;
  /** Normalises x + delta in one pass over memory. */
  abstract forwardSum(x: Tensor, delta: Tensor): NormalisedSum;
}

/** Options of {@link LayerNorm}. */
export interface LayerNormLayerOptions extends LayerOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /** Default true. */
  bias?: boolean;
  /** Divide by (deviation over n - 1) + eps, as "The Annotated Transformer" does. Default false. */
  unbiased?: boolean;
}

/**
 * Layer normalisation (Ba et al. 2016) of the last axis: (x - mean) / sqrt(variance + eps) * weight + bias.
 *
 * @example
 * const norm = new LayerNorm(64);
 */
export class LayerNorm extends Norm {
  weight: Parameter;
  bias: Parameter | null;
  readonly eps: number;
  readonly unbiased: boolean;

  constructor(
    readonly width: number,
    options: LayerNormLayerOptions = {},
  ) {
    super();
    checkOptions('LayerNorm', options, ['eps', 'bias', 'unbiased', ...layerOptionNames]);
    checkSizes('LayerNorm', { width });
    const { eps = 1e-5, bias = true, unbiased = false } = options;
    checkNumbers('LayerNorm', { eps }, 0);
    checkFlags('LayerNorm', { bias, unbiased });
    this.eps = eps;
    this.unbiased = unbiased;
    this.weight = parameter(full([width], 1, constantOptions(options)));
    this.bias = bias ? parameter(full([width], 0, constantOptions(options))) : null;
  }

  forward(x: Tensor): Tensor {
    const { eps, unbiased } = this;
    return layerNorm(x, this.weight, this.bias, { eps, unbiased });
  }

  forwardSum(x: Tensor, delta: Tensor): NormalisedSum {
    const { eps, unbiased } = this;
    const [y, s] = layerNorm(delta, this.weight, this.bias, { eps, unbiased, residual: x });
    return { y, sum: s };
  }

  protected override describe(): string {
    return `${this.width}, eps: ${this.eps}${this.bias ? '' : ', bias: false'}`;
  }
}

/** Options of {@link RMSNorm}. */
export interface RMSNormLayerOptions extends LayerOptions {
  /** Added to the mean square. Default 1e-6. */
  eps?: number;
}

/**
 * Root mean square normalisation (Zhang and Sennrich 2019) of the last axis: x / sqrt(mean(x^2) + eps) * weight.
 *
 * @example
 * const norm = new RMSNorm(64);
 */
export class RMSNorm extends Norm {
  weight: Parameter;
  readonly eps: number;

  constructor(
    readonly width: number,
    options: RMSNormLayerOptions = {},
  ) {
    super();
    checkOptions('RMSNorm', options, ['eps', ...layerOptionNames]);
    checkSizes('RMSNorm', { width });
    const { eps = 1e-6 } = options;
    checkNumbers('RMSNorm', { eps }, 0);
    this.eps = eps;
    this.weight = parameter(full([width], 1, constantOptions(options)));
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, { eps: this.eps });
  }

  forwardSum(x: Tensor, delta: Tensor): NormalisedSum {
    const [y, s] = rmsNorm(delta, this.weight, { eps: this.eps, residual: x });
    return { y, sum: s };
  }

  protected override describe(): string {
    return `${this.width}, eps: ${this.eps}`;
  }
}

/** Which norm a layer uses; `layerUnbiased` is that of "The Annotated Transformer". */
export type NormKind = 'layer' | 'layerUnbiased' | 'rms';

/** @internal */
export const normKinds: readonly NormKind[] = ['layer', 'layerUnbiased', 'rms'];

/** @internal Makes the norm of a kind. */
export function makeNorm(kind: NormKind, width: number, options: LayerNormLayerOptions): Norm {
  if (kind !== 'rms')
    return new LayerNorm(width, { ...options, unbiased: kind === 'layerUnbiased' });
  const { eps } = options;
  return new RMSNorm(width, { ...layerOptions(options), ...(eps !== undefined && { eps }) });
}
