/** Choosing the next token from logits, on the device: only the token comes back. */

import { noGrad } from '../core/autograd/index.js';
import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import type { Generator } from '../core/generator.js';
import { tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { reshape, slice } from '../core/views.js';
import { categorical } from '../dense/index.js';

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
  return new ArgumentError('ERR_OPTION', 'generate', argument, show(value), remedy);
}

/** Checks the options and fills in the defaults; `topK` is 0 for all. */
export function samplingOptions(options: SamplingOptions): Required<SamplingOptions> {
  const { temperature = 1, topK = Number.POSITIVE_INFINITY, topP = 1 } = options;
  if (!Number.isFinite(temperature) || temperature < 0)
    throw refuse('temperature', temperature, 'Give a number of at least 0');
  if (topK !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(topK) && topK >= 1))
    throw refuse('topK', topK, 'Give an integer of at least 1, or leave it out');
  if (typeof topP !== 'number' || !(topP > 0 && topP <= 1))
    throw refuse('topP', topP, 'Give a number above 0, up to 1');
  return { temperature, topK: topK === Number.POSITIVE_INFINITY ? 0 : topK, topP };
}

/**
 * Draws from the logits of the last position.
 *
 * @param logits [B, T, V]
 * @returns i32 [B]
 */
export function sampleLast(
  logits: Tensor,
  generator: Generator,
  options: Required<SamplingOptions>,
): Tensor {
  return tidy(() =>
    noGrad(() => {
      const [b, t, v] = logits.shape as [number, number, number];
      const last = t === 1 ? logits : slice(logits, 1, t - 1, t);
      return categorical(reshape(last, [b, v]), { ...options, generator });
    }),
  );
}
