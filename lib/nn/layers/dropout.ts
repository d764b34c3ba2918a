import type { Generator } from '../../core/generator.js';
import { checkOptions } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import { dropout } from '../../dense/index.js';
import { Module } from '../module.js';
import { checkProbability } from './options.js';

/**
 * Zeros elements with probability `p` while training and scales the others by 1 / (1 - p); does
 * nothing after `eval()`.
 *
 * @example
 * const layer = new Dropout(0.1).eval();
 */
export class Dropout extends Module {
  readonly #generator: Generator | undefined;

  constructor(
    readonly p: number,
    options: { generator?: Generator } = {},
  ) {
    super();
    checkOptions('Dropout', options, ['generator']);
    checkProbability('Dropout', 'p', p);
    this.#generator = options.generator;
  }

  forward(x: Tensor): Tensor {
    if (!this.training || this.p === 0) return x;
    return dropout(x, { p: this.p, ...(this.#generator && { generator: this.#generator }) });
  }

  protected override describe(): string {
    return String(this.p);
  }
}
