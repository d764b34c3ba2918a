/** Writing with a language model: tokens as they come. */

import { KvPages } from '../attention/index.js';
import { noGrad } from '../core/autograd/index.js';
import { tensor } from '../core/create.js';
import { show } from '../core/declare.js';
import { type Device, device as deviceOf } from '../core/device.js';
import {
  AbortError,
  ArgumentError,
  OperatorError,
  OutOfMemoryError,
  UnsupportedError,
} from '../core/errors.js';
import { Generator } from '../core/generator.js';
import {
  checkFlags,
  checkInstance,
  checkList,
  checkOptions,
  checkSignal,
  checkSizes,
} from '../core/options.js';
import { tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { Module } from '../nn/index.js';
import { type Capturable, type DecoderState, DecodingLoop, wantsCapture } from './decoding-loop.js';
import { type SamplingOptions, sampleLast, samplingOptions } from './sampling.js';

/** A model that generates: logits of the next token, over a whole sequence or token by token. */
export interface DecoderModel extends Module, Capturable {
  readonly config: { readonly vocabSize: number; readonly maxLength?: number };
  /** i32 [B, N] to [B, N, vocabSize]. */
  forward(ids: Tensor): Tensor;
  /** Whether states can lie in pages. Default false. */
  readonly paged?: boolean;
  /** An empty state for `batch` sequences of at most `capacity` tokens; in `pages`, where the model is `paged`. */
  initState(batch: number, capacity: number, options?: { pages?: KvPages }): DecoderState;
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
  /**
   * Record the step for one token once and replay it for each: on a GPU one launch instead of one per
   * operator. By default on a GPU, where the model is `capturable`; the tokens are the same.
   */
  capture?: boolean;
  /**
   * Where keys and values lie: pages that several generations share, for models that are `paged`. They are
   * given back when this one ends or is left. The tokens are the same. Default: memory of its own for all
   * tokens that there may be.
   */
  pages?: KvPages;
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
  'capture',
  'pages',
  'signal',
];

function refuse(argument: string, value: unknown, remedy: string): ArgumentError {
  return new ArgumentError('ERR_OPTION', 'generate', argument, show(value), remedy);
}

function checkPrompt(prompt: ArrayLike<number>, vocabSize: number): number[] {
  if (!Array.isArray(prompt) && !ArrayBuffer.isView(prompt)) {
    const remedy = 'Give a list of tokens, or an Int32Array';
    throw new ArgumentError('ERR_VALUE', 'generate', 'prompt', show(prompt), remedy);
  }
  const ids = Array.from(prompt as ArrayLike<number>);
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
      `${show(id)} at position ${i}`,
      `Tokens of this model are integers from 0 to ${vocabSize - 1}`,
    );
  });
  return ids;
}

function checkModel(model: DecoderModel): void {
  checkInstance('generate', 'model', model, Module);
  const steps = [model.forward, model.initState, model.step].every((f) => typeof f === 'function');
  if (steps && Number.isSafeInteger(model.config?.vocabSize)) return;
  const remedy = 'Pass a language model: one with config.vocabSize, forward, initState and step';
  throw new ArgumentError('ERR_VALUE', 'generate', 'model', show(model), remedy);
}

/** Chooses the token that follows. */
interface Chooser {
  /** Enqueues a choice after all of these tokens. */
  start(tokens: readonly number[]): void;
  /** Enqueues a choice after the token chosen last, whatever it is; absent: that must be known. */
  advance?(): void;
  /** The newest choice; later ones do not change it. */
  read(): Promise<Int32Array>;
  dispose(): void;
}

/** What both kinds of {@link Chooser} are made of. */
interface Choosing {
  readonly model: DecoderModel;
  readonly device: Device;
  /** i32 [1] from the logits [1, T, V]. */
  readonly choose: (logits: Tensor) => Tensor;
}

function idsOn(device: Device, tokens: readonly number[]): Tensor {
  return tensor(Int32Array.from(tokens), { shape: [1, tokens.length], device });
}

/** Computes everything again for each token. */
function recomputing({ model, device, choose }: Choosing): Chooser {
  let chosen: Tensor | null = null;
  return {
    start(tokens) {
      chosen?.dispose();
      chosen = tidy(() => noGrad(() => choose(model.forward(idsOn(device, tokens)))));
    },
    read: () => (chosen as Tensor).data() as Promise<Int32Array>,
    dispose: () => chosen?.dispose(),
  };
}

/** Remembers earlier tokens in the model's state. */
function caching(
  { model, device, choose }: Choosing,
  capacity: number,
  capture: boolean,
  pages: KvPages | undefined,
): Chooser {
  let state: DecoderState | null = null;
  let loop: DecodingLoop | null = null;
  const dispose = () => {
    loop?.dispose();
    state?.dispose();
  };
  const step = (ids: Tensor) => choose(model.step(ids, state as DecoderState));
  return {
    start(tokens) {
      dispose();
      const empty = model.initState(1, capacity, pages && { pages });
      state = empty;
      const first = tidy(() => noGrad(() => step(idsOn(device, tokens))));
      loop = new DecodingLoop({ first, step, state: empty, capture });
      first.dispose();
    },
    advance: () => loop?.advance(),
    read: () => (loop as DecodingLoop).read(),
    dispose,
  };
}

/** The token, once it is chosen. */
async function chosenBy(choice: Promise<Int32Array>): Promise<number> {
  let cause: unknown;
  try {
    const [token] = await choice;
    // What the CPU refuses to draw from, a GPU answers with -1.
    if (token !== undefined && token >= 0) return token;
  } catch (error) {
    if (!(error instanceof OperatorError && error.operator === 'categorical')) throw error;
    cause = error;
  }
  throw new OperatorError('generate: no token can be drawn from what the model gave', {
    operator: 'generate',
    argument: 'model',
    value: 'logits that are NaN, or of which none is finite',
    remedy: 'Use an earlier checkpoint: its training diverged, or its weights are damaged',
    cause,
  });
}

/**
 * Continues a sequence, token by token. The model is put into inference mode meanwhile. With the cache
 * a token costs one position; the tokens are those that computing everything again would give. Tokens
 * are chosen on the device, and the next step is enqueued before the last token is read; equal logits
 * and seeds give equal tokens on every device. When `pages` run out, the tokens chosen so far have been
 * yielded.
 *
 * @param prompt tokens to continue, at least one
 * @returns the new tokens, one at a time, as soon as each is chosen
 * @throws ArgumentError for an empty prompt, tokens outside the vocabulary, options out of range, and
 *   lengths beyond the model's `maxLength` unless `overflow` is `window`
 * @throws OperatorError when the model gives NaN
 * @throws OutOfMemoryError when no page is free for the next token
 * @throws UnsupportedError for `pages` where the model is not `paged`
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
  checkModel(model);
  checkFlags('generate', { useCache });
  checkSignal('generate', signal);
  checkList('generate', 'stop', stop, 'tokens');
  stop.forEach((token, i) => {
    checkSizes('generate', { [`stop[${i}]`]: token }, 0);
  });
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
  const device = model.parameters()[0]?.device ?? deviceOf();
  const capture = wantsCapture('generate', model, device, options.capture);
  if (options.capture && !useCache)
    throw refuse('capture', true, 'Leave useCache on: only its steps are alike');
  const { pages } = options;
  if (pages !== undefined) checkInstance('generate', 'pages', pages, KvPages);
  if (pages && !useCache) throw refuse('pages', 'given', 'Leave useCache on: pages hold the cache');
  if (pages && !model.paged) {
    throw new UnsupportedError('generate: the state of this model cannot lie in pages', {
      ...{ operator: 'generate', argument: 'pages', value: 'given' },
      remedy: 'Leave pages out, or use mechanisms whose `paged` is true',
    });
  }
  if (maxTokens === 0) return;
  using generator = new Generator(seed, device);
  const choosing: Choosing = {
    model,
    device,
    choose: (logits) => sampleLast(logits, generator, sampling),
  };
  const training = model.training;
  model.eval();
  const chooser = useCache
    ? caching(choosing, Math.min(needed, limit), capture, pages)
    : recomputing(choosing);
  try {
    let window = tokens.length > limit ? tokens.slice(-limit) : tokens;
    let ahead = false;
    let failure: OutOfMemoryError | null = null;
    for (let made = 1; ; made++) {
      if (signal?.aborted) throw new AbortError('generation was aborted', { cause: signal.reason });
      if (!ahead) chooser.start(window);
      const choice = chooser.read();
      const full = window.length >= limit;
      // The next step runs while this token is read and used.
      ahead = made < maxTokens && !full && chooser.advance !== undefined;
      if (ahead) {
        try {
          chooser.advance?.();
        } catch (error) {
          // This token is there: pages are missing for what follows it.
          if (!(error instanceof OutOfMemoryError)) throw error;
          failure = error;
        }
      }
      const token = await chosenBy(choice);
      if (stop.includes(token)) return;
      yield token;
      if (failure) throw failure;
      if (made === maxTokens) return;
      if (full) window = window.slice(-Math.floor(limit / 2));
      window.push(token);
    }
  } finally {
    chooser.dispose();
    model.train(training);
  }
}
