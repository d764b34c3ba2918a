import { asTensor } from '../../core/declare.js';
import { checkFlags, checkOptions } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import { reshape } from '../../core/views.js';
import { concat, geglu, linear, reglu, swiglu } from '../../dense/index.js';
import { chunked } from '../functional/chunked.js';
import { Module } from '../module.js';
import { Dropout } from './dropout.js';
import { Linear } from './linear.js';
import {
  checkChoice,
  checkSizes,
  type LayerOptions,
  layerOptionNames,
  layerOptions,
} from './options.js';

/** What stands between the two maps of a {@link FeedForward}. */
export type FeedForwardActivation = PlainActivation | GatedActivation;
type PlainActivation = 'relu' | 'gelu' | 'geluTanh' | 'silu' | 'reluSquared';
type GatedActivation = 'swiglu' | 'geglu' | 'reglu';

/** @internal */
export const feedForwardActivations: readonly FeedForwardActivation[] = [
  'relu',
  'gelu',
  'geluTanh',
  'silu',
  'reluSquared',
  'swiglu',
  'geglu',
  'reglu',
];

/** Options of {@link FeedForward}. */
export interface FeedForwardOptions extends LayerOptions {
  /** Default `relu`, that of Vaswani et al. 2017. */
  activation?: FeedForwardActivation;
  /** Default true. */
  bias?: boolean;
  /** Probability of dropout after the activation and on the output. Default 0. */
  dropout?: number;
  /**
   * Tokens computed at a time, so that the wide hidden layer is never whole (Kitaev et al. 2020); it is
   * computed again during backward. Default: all at once.
   */
  chunk?: number | null;
}

const optionNames = ['activation', 'bias', 'dropout', 'chunk', ...layerOptionNames];

const gates: Readonly<Record<GatedActivation, (x: Tensor) => Tensor>> = { swiglu, geglu, reglu };

/**
 * linear2(activation(linear1(x))). Gated activations (Shazeer 2020) halve what linear1 gives: its
 * first `hidden` outputs are activated and multiplied by the others.
 *
 * @example
 * const part = new FeedForward(64, 256, { activation: 'swiglu', bias: false });
 * part.forward(ones([2, 5, 64])).shape; // [2, 5, 64]
 */
export class FeedForward extends Module {
  readonly linear1: Linear;
  readonly linear2: Linear;
  readonly activation: FeedForwardActivation;
  readonly dropout: Dropout;
  readonly chunk: number | null;

  constructor(
    readonly dModel: number,
    readonly hidden: number,
    options: FeedForwardOptions = {},
  ) {
    super();
    checkOptions('FeedForward', options, optionNames);
    checkSizes('FeedForward', { dModel, hidden });
    const { activation = 'relu', bias = true, dropout = 0, chunk = null } = options;
    if (chunk !== null) checkSizes('FeedForward', { chunk });
    checkFlags('FeedForward', { bias });
    checkChoice('FeedForward', 'activation', activation, feedForwardActivations);
    const made = layerOptions(options);
    this.activation = activation;
    this.chunk = chunk;
    this.linear1 = new Linear(dModel, activation in gates ? 2 * hidden : hidden, { ...made, bias });
    this.linear2 = new Linear(hidden, dModel, { ...made, bias });
    this.dropout = new Dropout(dropout, made.generator && { generator: made.generator });
  }

  /** @param x [..., dModel] */
  forward(x: Tensor): Tensor {
    const { chunk, dModel } = this;
    asTensor('FeedForward', 'x', x);
    if (chunk === null || x.size <= chunk * dModel) return this.#whole(x);
    const rows = reshape(x, [-1, dModel]);
    const parts = chunked('FeedForward', chunk, (part) => this.#whole(part), rows);
    return reshape(concat(parts, 0), x.shape);
  }

  #whole(x: Tensor): Tensor {
    const hidden = this.dropout.forward(this.#activated(x));
    return this.dropout.forward(this.linear2.forward(hidden));
  }

  #activated(x: Tensor): Tensor {
    const { activation, linear1 } = this;
    if (isGated(activation)) return gates[activation](linear1.forward(x));
    return linear(x, linear1.weight, linear1.bias, { activation });
  }

  protected override describe(): string {
    return `${this.dModel}, hidden: ${this.hidden}, ${this.activation}`;
  }
}

/** @internal Whether an activation multiplies two halves. */
export function isGated(activation: FeedForwardActivation): activation is GatedActivation {
  return activation in gates;
}
