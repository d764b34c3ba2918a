import { checkOptions } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import { embedding, normal } from '../../dense/index.js';
import { Module } from '../module.js';
import { type Parameter, parameter } from '../parameter.js';
import { checkSizes, type LayerOptions, layerOptionNames, layerOptions } from './options.js';

/** Options of {@link Embedding}. */
export interface EmbeddingOptions extends LayerOptions {
  /** Standard deviation of the initial values. Default 1. */
  std?: number;
}

/**
 * Rows of a table by index. `weight` is [rows, width].
 *
 * @example
 * const table = new Embedding(256, 64);
 * table.forward(tensor([[1, 2]], { dtype: 'i32' })).shape; // [1, 2, 64]
 */
export class Embedding extends Module {
  weight: Parameter;

  constructor(
    readonly rows: number,
    readonly width: number,
    options: EmbeddingOptions = {},
  ) {
    super();
    checkOptions('Embedding', options, ['std', ...layerOptionNames]);
    checkSizes('Embedding', { rows, width });
    const { std = 1 } = options;
    this.weight = parameter(normal([rows, width], { ...layerOptions(options), std }));
  }

  /**
   * @param ids i32, any shape
   * @returns the shape of `ids` and an axis of `width`
   */
  forward(ids: Tensor): Tensor {
    return embedding(this.weight, ids);
  }

  protected override describe(): string {
    return `${this.rows}, ${this.width}`;
  }
}
