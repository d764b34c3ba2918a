import { asTensor } from '../../core/declare.js';
import { Generator } from '../../core/generator.js';
import { checkInstance, checkOptions } from '../../core/options.js';
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
    const { generator } = options;
    if (generator !== undefined) checkInstance('Dropout', 'generator', generator, Generator);
    this.#generator = generator;
  }

  forward(x: Tensor): Tensor {
    if (!this.training || this.p === 0) return asTensor('Dropout', 'x', x);
    return dropout(x, { p: this.p, ...(this.#generator && { generator: this.#generator }) });
  }

  protected override describe(): string {
    return String(this.p);
  }
}
