/** Choosing the next token from logits, on the host: every token is read anyway to be shown. */

import { ArgumentError, OperatorError } from '../core/errors.js';
import type { Random } from '../core/random.js';

/** How a token is chosen. */
export interface SamplingOptions {
  /** Divides the logits; 0 always takes the likeliest token. 1 by default. */
  temperature?: number;
  /** Keep the `topK` likeliest tokens; all by default. */
  topK?: number;
  /**
   * Keep the likeliest tokens until their probabilities add up to `topP` (nucleus sampling, Holtzman
   * et al. 2020); 1, all, by default. Applied after `topK`.
   */
  topP?: number;
}

function refuse(argument: string, value: unknown, remedy: string): ArgumentError {
  return new ArgumentError('ERR_OPTION', 'generate', argument, String(value), remedy);
}

/** @internal Checks the options and fills in the defaults. */
export function samplingOptions(options: SamplingOptions): Required<SamplingOptions> {
  const { temperature = 1, topK = Number.POSITIVE_INFINITY, topP = 1 } = options;
  if (!(temperature >= 0 && temperature < Number.POSITIVE_INFINITY))
    throw refuse('temperature', temperature, 'Give a number of at least 0');
  if (topK !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(topK) && topK >= 1))
    throw refuse('topK', topK, 'Give an integer of at least 1, or leave it out');
  if (!(topP > 0 && topP <= 1)) throw refuse('topP', topP, 'Give a number above 0, up to 1');
  return { temperature, topK, topP };
}

/**
 * A token drawn from logits. Equal logits and equal generators give equal tokens; of equally likely
 * tokens the one with the smaller id counts as likelier.
 *
 * @param logits one number per token
 * @param random advanced by one number, also where nothing is left to chance
 * @throws OperatorError when a logit is NaN, or none is finite
 * @throws ArgumentError when an option is out of range
 * @example
 * sampleToken([1, 5, 2], new Random(1), { temperature: 0 }); // 1
 */
export function sampleToken(
  logits: ArrayLike<number>,
  random: Random,
  options: SamplingOptions = {},
): number {
  const { temperature, topK, topP } = samplingOptions(options);
  const u = random.uniform();
  const best = likeliest(logits);
  if (temperature === 0 || topK === 1) return best;
  const peak = logits[best];
  const weights = Array.from(logits, (z) => Math.exp((z - peak) / temperature));
  if (topK >= weights.length && topP === 1) return pick(weights, u);
  const order = Array.from(weights, (_, i) => i).sort((a, b) => weights[b] - weights[a] || a - b);
  order.length = Math.min(order.length, topK);
  const total = order.reduce((sum, i) => sum + weights[i], 0);
  let kept = 0;
  for (let sum = 0; kept < order.length && sum < topP * total; kept++) sum += weights[order[kept]];
  order.length = kept;
  return order[
    pick(
      order.map((i) => weights[i]),
      u,
    )
  ];
}

function likeliest(logits: ArrayLike<number>): number {
  let best = -1;
  for (let i = 0; i < logits.length; i++) {
    const z = logits[i];
    if (Number.isNaN(z)) throw broken('NaN', i);
    if (best < 0 || z > logits[best]) best = i;
  }
  if (best < 0 || !Number.isFinite(logits[best])) throw broken(String(logits[best]), best);
  return best;
}

function broken(value: string, token: number): OperatorError {
  return new OperatorError(`generate: the model gave ${value} as the logit of token ${token}`, {
    operator: 'generate',
    argument: 'model',
    value,
    remedy: 'Use an earlier checkpoint: its training diverged, or its weights are damaged',
  });
}

/** Index drawn in proportion to weights by a number in [0, 1). */
function pick(weights: readonly number[], u: number): number {
  const total = weights.reduce((sum, w) => sum + w, 0);
  let rest = u * total;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    last = i;
    rest -= weights[i];
    if (rest < 0) return i;
  }
  return last; // rounding has left a little
}
