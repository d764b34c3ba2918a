/** Writing with a language model: tokens as they come. */

import { noGrad } from '../core/autograd/index.js';
import { tensor } from '../core/create.js';
import { AbortError, ArgumentError, UnsupportedError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import { Random } from '../core/random.js';
import { tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { slice } from '../core/views.js';
import type { Module } from '../nn/index.js';
import { type SamplingOptions, sampleToken, samplingOptions } from './sampling.js';

/** What a decoder remembers. */
export interface DecoderState {
  dispose(): void;
}

/** A model that generates: logits of the next token, over a whole sequence or token by token. */
export interface DecoderModel extends Module {
  readonly config: { readonly vocabSize: number; readonly maxLength?: number };
  /** i32 [B, N] to [B, N, vocabSize]. */
  forward(ids: Tensor): Tensor;
  /** An empty state for `batch` sequences of at most `capacity` tokens. */
  initState(batch: number, capacity: number): DecoderState;
  /** i32 [B, T], the tokens that follow, to [B, T, vocabSize]. */
  step(ids: Tensor, state: DecoderState): Tensor;
}

/** Options of {@link generate}. */
export interface GenerateOptions extends SamplingOptions {
  /** Tokens to generate at most; 256 by default. */
  maxTokens?: number;
  /** Seed of the choices; 0 by default. */
  seed?: number;
  /** Tokens that end the text; the one that did is not yielded. */
  stop?: readonly number[];
  /**
   * What happens when prompt and answer are longer than the model's `maxLength`: `refuse` (the
   * default) throws before anything is computed; `window` forgets the oldest tokens and goes on from
   * the last half of `maxLength`.
   */
  overflow?: 'refuse' | 'window';
  /** Remember keys and values of earlier tokens (default), or compute everything again each time. */
  useCache?: boolean;
  signal?: AbortSignal;
}

const optionNames = [
  'temperature',
  'topK',
  'topP',
  'maxTokens',
  'seed',
  'stop',
  'overflow',
  'useCache',
  'signal',
];

function refuse(argument: string, value: unknown, remedy: string): ArgumentError {
  return new ArgumentError('ERR_OPTION', 'generate', argument, String(value), remedy);
}

function checkPrompt(prompt: ArrayLike<number>, vocabSize: number): number[] {
  const ids = Array.from(prompt);
  if (ids.length === 0) {
    throw new ArgumentError(
      'ERR_VALUE',
      'generate',
      'prompt',
      'empty',
      'Give at least one token to go on from, for example a line break (10)',
    );
  }
  ids.forEach((id, i) => {
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) return;
    throw new ArgumentError(
      'ERR_VALUE',
      'generate',
      'prompt',
      `${id} at position ${i}`,
      `Tokens of this model are integers from 0 to ${vocabSize - 1}`,
    );
  });
  return ids;
}

/** Gives the logits after the tokens so far; remembers as little or as much as it likes. */
interface Reader {
  /** @param fresh tokens since the last call, the last entries of `all` */
  logits(all: readonly number[], fresh: number): Promise<ArrayLike<number>>;
  dispose(): void;
}

function ids(model: Module, tokens: readonly number[]): Tensor {
  const device = model.parameters()[0]?.device;
  return tensor(Int32Array.from(tokens), { shape: [1, tokens.length], device });
}

/** [1, T, V] to the V numbers of the last position. */
async function lastRow(logits: Tensor): Promise<ArrayLike<number>> {
  const n = logits.dim(1);
  const row = tidy(() =>
    noGrad(() =>
      slice(logits, 1, n - 1, n)
        .to('f32')
        .contiguous(),
    ),
  );
  try {
    return await row.data();
  } finally {
    row.dispose();
    logits.dispose();
  }
}

function recomputing(model: DecoderModel): Reader {
  return {
    logits: (all) => lastRow(tidy(() => noGrad(() => model.forward(ids(model, all))))),
    dispose: () => undefined,
  };
}

function caching(model: DecoderModel, capacity: number): Reader {
  let state = model.initState(1, capacity);
  let length = 0;
  return {
    logits(all, fresh) {
      // A window that moved has forgotten tokens, so all of it is new.
      if (length + fresh !== all.length) {
        state.dispose();
        state = model.initState(1, capacity);
        length = 0;
      }
      const tokens = all.slice(length);
      length = all.length;
      return lastRow(tidy(() => noGrad(() => model.step(ids(model, tokens), state))));
    },
    dispose: () => state.dispose(),
  };
}

/**
 * Continues a sequence, token by token. The model is put into inference mode meanwhile. With the cache
 * a token costs one position; the tokens are those that computing everything again would give.
 *
 * @param prompt tokens to continue, at least one
 * @returns the new tokens, one at a time, as soon as each is chosen
 * @throws ArgumentError for an empty prompt, tokens outside the vocabulary, options out of range, and
 *   lengths beyond the model's `maxLength` unless `overflow` is `window`
 * @throws OperatorError when the model gives NaN
 * @throws AbortError when `signal` fires
 * @example
 * const model = new TransformerLM({ vocabSize: 256, dModel: 32, layers: 1, heads: 2 });
 * const tokens: number[] = [];
 * for await (const token of generate(model, [72, 105], { maxTokens: 10, seed: 1 })) {
 *   tokens.push(token);
 * }
 */
export async function* generate(
  model: DecoderModel,
  prompt: ArrayLike<number>,
  options: GenerateOptions = {},
): AsyncGenerator<number, void, undefined> {
  checkOptions('generate', options, optionNames);
  const { maxTokens = 256, seed = 0, stop = [], overflow = 'refuse', useCache = true } = options;
  const { signal } = options;
  const sampling = samplingOptions(options);
  if (!Number.isSafeInteger(maxTokens) || maxTokens < 0)
    throw refuse('maxTokens', maxTokens, 'Give a whole number of at least 0');
  if (overflow !== 'refuse' && overflow !== 'window')
    throw refuse('overflow', overflow, "Use 'refuse' or 'window'");
  const tokens = checkPrompt(prompt, model.config.vocabSize);
  const limit = model.config.maxLength ?? Number.POSITIVE_INFINITY;
  // The last token is chosen but never read, so it needs no position.
  const needed = tokens.length + Math.max(0, maxTokens - 1);
  if (needed > limit && overflow === 'refuse') {
    throw new ArgumentError(
      'ERR_VALUE',
      'generate',
      'prompt',
      `${tokens.length} tokens, with ${maxTokens} to follow`,
      `The model reads ${limit} tokens: shorten the prompt, lower maxTokens, or pass { overflow: 'window' } to forget the oldest`,
    );
  }
  if (needed > limit && limit < 2)
    throw new UnsupportedError('generate: a model of length 1 has no window to move');
  const random = new Random(seed);
  const training = model.training;
  model.eval();
  const reader = useCache ? caching(model, Math.min(needed, limit)) : recomputing(model);
  try {
    let window = tokens.length > limit ? tokens.slice(-limit) : tokens;
    let fresh = window.length;
    for (let made = 0; made < maxTokens; made++) {
      if (signal?.aborted) throw new AbortError('generation was aborted', { cause: signal.reason });
      const token = sampleToken(await reader.logits(window, fresh), random, sampling);
      if (stop.includes(token)) return;
      yield token;
      if (window.length >= limit) window = window.slice(-Math.floor(limit / 2));
      window.push(token);
      fresh = 1;
    }
  } finally {
    reader.dispose();
    model.train(training);
  }
}
