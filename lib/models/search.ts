/** Beam search and greedy decoding with the encoder-decoder. */
import { noGrad } from '../core/autograd/index.js';
import { fromBytes } from '../core/create.js';
import { asTensor, show } from '../core/declare.js';
import { AbortError, ArgumentError } from '../core/errors.js';
import {
  checkFunction,
  checkInstance,
  checkObject,
  checkOptions,
  checkSignal,
  checkSizes,
} from '../core/options.js';
import { copy, full } from '../core/primitives.js';
import { tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { reshape } from '../core/views.js';
import { argmax } from '../dense/index.js';
import { DecodingState } from '../nn/decoding-state.js';
import {
  type BeamScorer,
  type BeamSearchOptions,
  beamSearch,
  type Hypothesis,
} from '../train/beam-search.js';
import { DecodingLoop, wantsCapture } from '../train/decoding-loop.js';
import { Transformer } from './transformer.js';

/**
 * A scorer for `beamSearch` that keeps keys and values of what was decoded: each step costs one
 * position, and a row that continues another takes over its state.
 *
 * @param state of `model.initState(source, { beams })`
 * @example
 * const model = new Transformer({ vocabSize: 16, dModel: 32, heads: 4, feedForward: 64 }).eval();
 * const state = model.initState(tensor([[3, 4, 5]], { dtype: 'i32' }), { beams: 4, capacity: 9 });
 * const found = await beamSearch({ scorer: stateScorer(model, state), bos: 1, eos: 2, maxSteps: 9 });
 */
export function stateScorer(
  model: { step(ids: Tensor, state: DecodingState): Tensor },
  state: DecodingState,
): BeamScorer {
  checkObject('stateScorer', 'model', model, 'a model with step(ids, state)');
  checkFunction('stateScorer', model.step, 'model.step');
  checkInstance('stateScorer', 'state', state, DecodingState);
  return async ({ index, tokens, parents }) => {
    const device = state.positions.device;
    const scores = tidy(() =>
      noGrad(() => {
        if (index > 0 && parents.some((parent, row) => parent !== row)) {
          state.reorder(fromBytes(parents, [parents.length], 'i32', device));
        }
        const ids = fromBytes(tokens, [tokens.length, 1], 'i32', device);
        const logits = model.step(ids, state);
        return copy(logits, logits.dtype === 'f64' ? 'f64' : 'f32');
      }),
    );
    try {
      return (await scores.data()) as Float32Array | Float64Array;
    } finally {
      scores.dispose();
    }
  };
}

/** The model's longest target of these sources, unless fewer tokens are asked for. */
function stepsFor(
  operator: string,
  model: Transformer,
  source: Tensor,
  asked: number | undefined,
): number {
  checkInstance(operator, 'model', model, Transformer);
  if (asTensor(operator, 'source', source).rank !== 2) {
    throw new ArgumentError('ERR_RANK', operator, 'source', show(source), 'It must be [B, M]');
  }
  const { maxLength } = model.config;
  const maxSteps = asked === undefined ? Math.min(source.dim(1) + 50, maxLength) : asked;
  checkSizes(operator, { maxSteps });
  return maxSteps;
}

/** Options of {@link greedy}. */
export interface GreedyOptions {
  /** Token every sequence starts with. */
  bos: number;
  /** Token that ends a sequence. */
  eos: number;
  /** Most tokens to generate, the end token included. Default: the source's length and 50. */
  maxSteps?: number;
  /** Record the step once and replay it, see `GenerateOptions`. */
  capture?: boolean;
  signal?: AbortSignal;
}

/**
 * The likeliest token after each, one at a time; dropout must be off (`eval()`). The choice is made on
 * the device: only tokens come back.
 *
 * @param source i32 [B, M]
 * @returns for each source its tokens, without the start token, with the end token where it was reached
 * @throws AbortError when `signal` fires
 * @example
 * const model = new Transformer({ vocabSize: 16, dModel: 32, heads: 4, feedForward: 64 }).eval();
 * const source = tensor([[3, 4, 5]], { dtype: 'i32' });
 * const [tokens] = await greedy(model, source, { bos: 1, eos: 2, maxSteps: 9 });
 */
export async function greedy(
  model: Transformer,
  source: Tensor,
  options: GreedyOptions,
): Promise<number[][]> {
  checkOptions('greedy', options, ['bos', 'eos', 'maxSteps', 'capture', 'signal']);
  const { bos, eos, signal } = options;
  checkSizes('greedy', { bos, eos }, 0);
  checkSignal('greedy', signal);
  const steps = stepsFor('greedy', model, source, options.maxSteps);
  const batch = source.dim(0);
  const capture = wantsCapture('greedy', model, source.device, options.capture);
  using state = model.initState(source, { capacity: steps });
  const found: number[][] = Array.from({ length: batch }, () => []);
  const start = full([batch], bos, { dtype: 'i32', device: source.device });
  using loop = new DecodingLoop({
    first: start,
    step: (ids) => argmax(reshape(model.step(ids, state), [batch, -1]), -1),
    state,
    capture,
  });
  start.dispose();
  loop.advance();
  for (let step = 1; step <= steps; step++) {
    if (signal?.aborted) throw new AbortError('decoding was aborted', { cause: signal.reason });
    const choice = loop.read();
    if (step < steps) loop.advance(); // runs while these tokens are read
    const tokens = await choice;
    for (const [row, sequence] of found.entries()) {
      if (sequence.at(-1) !== eos) sequence.push(tokens[row] as number);
    }
    if (found.every((sequence) => sequence.at(-1) === eos)) break;
  }
  return found;
}

/** Options of {@link translate}. */
export interface TranslateOptions extends Omit<BeamSearchOptions, 'scorer' | 'batch' | 'maxSteps'> {
  /** Most tokens to generate, the end token included. Default: the source's length and 50. */
  maxSteps?: number;
}

/**
 * Finds the likeliest targets of a batch of sources by beam search; dropout must be off (`eval()`).
 *
 * @param source i32 [B, M]
 * @returns for each source its hypotheses, best first
 * @example
 * const model = new Transformer({ vocabSize: 16, dModel: 32, heads: 4, feedForward: 64 }).eval();
 * const source = tensor([[3, 4, 5]], { dtype: 'i32' });
 * const [[best]] = await translate(model, source, { bos: 1, eos: 2, maxSteps: 9 });
 */
export async function translate(
  model: Transformer,
  source: Tensor,
  options: TranslateOptions,
): Promise<Hypothesis[][]> {
  checkObject('translate', 'options', options, '{ bos, eos }');
  const { maxSteps, ...rest } = options;
  const steps = stepsFor('translate', model, source, maxSteps);
  const { beam = 4 } = options;
  checkSizes('translate', { beam });
  const batch = source.dim(0);
  using state = model.initState(source, { beams: beam, capacity: steps });
  return await beamSearch({
    ...rest,
    beam,
    batch,
    maxSteps: steps,
    scorer: stateScorer(model, state),
  });
}
