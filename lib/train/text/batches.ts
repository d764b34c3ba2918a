/** Batches of byte windows: random ones for training, sequential ones for evaluation. */

import { show } from '../../core/declare.js';
import { ArgumentError, CheckpointError } from '../../core/errors.js';
import { checkOptions } from '../../core/options.js';
import { Random, type RandomState } from '../../core/random.js';

/** Windows of text and, one step later, what follows each byte. */
export interface TextBatch {
  /** [batch, length], row after row. */
  readonly inputs: Int32Array;
  /** [batch, length]: `targets[b, i]` is the byte after `inputs[b, i]`. */
  readonly targets: Int32Array;
  readonly batch: number;
  readonly length: number;
  /** How many targets count; the others are `ignoreIndex`. */
  readonly count: number;
}

/** What a sampler needs. */
export interface BatchSamplerOptions {
  /** Text, at least `length + 1` bytes. */
  data: Uint8Array;
  /** Rows of a batch. */
  batch: number;
  /** Bytes of a row. */
  length: number;
  /** Seed of the sequence of windows; 0 by default. */
  seed?: number;
}

/** Where a sampler stands, fit for JSON. */
export interface BatchSamplerState {
  readonly random: RandomState;
  /** Batches drawn so far. */
  readonly drawn: number;
  /** Bytes of the text it draws from, to notice another one. */
  readonly dataBytes: number;
  readonly batch: number;
  readonly length: number;
}

function checkCount(operator: string, argument: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw new ArgumentError('ERR_VALUE', operator, argument, show(value), 'Give an integer >= 1');
}

function checkData(operator: string, data: Uint8Array, least: number): void {
  if (ArrayBuffer.isView(data) && data.byteLength >= least) return;
  throw new ArgumentError(
    'ERR_VALUE',
    operator,
    'data',
    ArrayBuffer.isView(data) ? `${(data as Uint8Array).byteLength} bytes` : show(data),
    `Give at least ${least} bytes of text, or shorter windows`,
  );
}

/**
 * Draws windows at random positions, all equally likely, forever. The sequence depends only on the
 * seed and the sizes; `state` and `restore` continue it exactly.
 *
 * @example
 * const data = Buffer.from('to be, or not to be: that is the question');
 * const sampler = new BatchSampler({ data, batch: 4, length: 8, seed: 1 });
 * const { inputs, targets } = sampler.next();
 * const saved = JSON.stringify(sampler.state());
 * sampler.restore(JSON.parse(saved));
 */
export class BatchSampler {
  readonly batch: number;
  readonly length: number;
  private readonly data: Uint8Array;
  private random: Random;
  private drawn = 0;

  constructor(options: BatchSamplerOptions) {
    checkOptions('BatchSampler', options, ['data', 'batch', 'length', 'seed']);
    const { data, batch, length, seed = 0 } = options;
    checkCount('BatchSampler', 'batch', batch);
    checkCount('BatchSampler', 'length', length);
    checkData('BatchSampler', data, length + 1);
    this.data = data;
    this.batch = batch;
    this.length = length;
    this.random = new Random(seed);
  }

  /** The next batch. */
  next(): TextBatch {
    const { batch, length, data } = this;
    const inputs = new Int32Array(batch * length);
    const targets = new Int32Array(batch * length);
    for (let row = 0; row < batch; row++) {
      const start = this.random.below(data.length - length);
      inputs.set(data.subarray(start, start + length), row * length);
      targets.set(data.subarray(start + 1, start + length + 1), row * length);
    }
    this.drawn++;
    return { inputs, targets, batch, length, count: batch * length };
  }

  /** Where the sampler stands. */
  state(): BatchSamplerState {
    return {
      random: this.random.state(),
      drawn: this.drawn,
      dataBytes: this.data.length,
      batch: this.batch,
      length: this.length,
    };
  }

  /**
   * Continues where `state` was taken.
   *
   * @throws {CheckpointError} when it was taken over other text or with other sizes.
   */
  restore(state: BatchSamplerState): void {
    const here = this.state();
    for (const field of ['dataBytes', 'batch', 'length'] as const) {
      if (state?.[field] === here[field]) continue;
      throw new CheckpointError(
        `the saved state of the text sampler has ${field} ${state?.[field]}, this run has ${here[field]}`,
        {
          argument: field,
          value: String(state?.[field]),
          remedy: 'Resume with the same text and the same batch sizes',
        },
      );
    }
    const random = Random.from(state.random);
    if (!Number.isSafeInteger(state.drawn) || state.drawn < 0) {
      throw new CheckpointError(`the saved state of the text sampler has drawn ${state.drawn}`, {
        argument: 'drawn',
        value: String(state.drawn),
        remedy: 'Restore a state that state() returned',
      });
    }
    this.random = random;
    this.drawn = state.drawn;
  }
}

/** How `evaluationBatches` cuts a text. */
export interface EvaluationOptions {
  /** Rows of a batch; the last batch may have fewer. */
  batch: number;
  /** Bytes of a row. */
  length: number;
  /** Target of the positions behind the end of the text; -100 by default. */
  ignoreIndex?: number;
  /** Stop after this many batches; all by default. */
  maxBatches?: number;
}

/**
 * Cuts a text into windows one after the other: every byte but the first is a target exactly
 * once. The last window is filled up with input 0 and target `ignoreIndex`.
 *
 * @example
 * const text = Buffer.from('to be, or not to be: that is the question');
 * let bytes = 0;
 * for (const { inputs, targets, count } of evaluationBatches(text, { batch: 2, length: 8 })) {
 *   bytes += count; // targets of the text: the weight of this batch's average loss
 * }
 */
export function* evaluationBatches(
  data: Uint8Array,
  options: EvaluationOptions,
): Generator<TextBatch> {
  const names = ['batch', 'length', 'ignoreIndex', 'maxBatches'];
  checkOptions('evaluationBatches', options, names);
  const { batch, length, ignoreIndex = -100, maxBatches } = options;
  checkCount('evaluationBatches', 'batch', batch);
  checkCount('evaluationBatches', 'length', length);
  checkData('evaluationBatches', data, 2);
  if (maxBatches !== undefined) checkCount('evaluationBatches', 'maxBatches', maxBatches);
  if (!Number.isSafeInteger(ignoreIndex)) {
    const remedy = 'Give an integer, -100, say';
    throw new ArgumentError(
      'ERR_VALUE',
      'evaluationBatches',
      'ignoreIndex',
      show(ignoreIndex),
      remedy,
    );
  }
  const windows = Math.ceil((data.length - 1) / length);
  const most = maxBatches ?? Number.POSITIVE_INFINITY;
  for (let first = 0, n = 0; first < windows && n < most; first += batch, n++) {
    const rows = Math.min(batch, windows - first);
    const inputs = new Int32Array(rows * length);
    const targets = new Int32Array(rows * length).fill(ignoreIndex);
    const begin = first * length;
    const count = Math.min(rows * length, data.length - 1 - begin);
    inputs.set(data.subarray(begin, begin + count));
    targets.set(data.subarray(begin + 1, begin + 1 + count));
    yield { inputs, targets, batch: rows, length, count };
  }
}
