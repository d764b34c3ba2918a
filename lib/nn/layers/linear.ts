import { checkFlags, checkOptions } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import { linear, uniform } from '../../dense/index.js';
import { Module } from '../module.js';
import { type Parameter, parameter } from '../parameter.js';
import { checkSizes, type LayerOptions, layerOptionNames, layerOptions } from './options.js';

/** Options of {@link Linear}. */
export interface LinearLayerOptions extends LayerOptions {
  /** Default true. */
  bias?: boolean;
}

/**
 * y = x W^T + b on the last axis. `weight` is [outputs, inputs], `bias` [outputs]; both start uniform
 * within 1 / sqrt(inputs), as PyTorch's do.
 *
 * @example
 * const layer = new Linear(4, 8);
 * layer.forward(ones([2, 3, 4])).shape; // [2, 3, 8]
 */
export class Linear extends Module {
  weight: Parameter;
  bias: Parameter | null;

  constructor(
    readonly inputs: number,
    readonly outputs: number,
    options: LinearLayerOptions = {},
  ) {
    super();
    checkOptions('Linear', options, ['bias', ...layerOptionNames]);
    checkSizes('Linear', { inputs, outputs });
    const { bias = true } = options;
    checkFlags('Linear', { bias });
    const bound = 1 / Math.sqrt(inputs);
    const draw = { ...layerOptions(options), low: -bound, high: bound };
    this.weight = parameter(uniform([outputs, inputs], draw));
    this.bias = bias ? parameter(uniform([outputs], draw)) : null;
  }

  /** @param x [..., inputs] */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }

  protected override describe(): string {
    return `${this.inputs}, ${this.outputs}${this.bias ? '' : ', bias: false'}`;
  }
}
