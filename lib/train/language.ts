/** Byte-level language models on text files: data, loss, evaluation. */

import { noGrad } from '../core/autograd/index.js';
import { tensor } from '../core/create.js';
import { show } from '../core/declare.js';
import { AbortError, ArgumentError } from '../core/errors.js';
import {
  checkArray,
  checkInstance,
  checkObject,
  checkOptions,
  checkSignal,
  checkSizes,
} from '../core/options.js';
import { tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { Module } from '../nn/index.js';
import {
  concatenate,
  evaluationBatches,
  loadCorpus,
  type SkippedFile,
  splitCorpus,
  type TextBatch,
  type TextFile,
} from './text/index.js';

/** A model that scores the next token at every position. */
export interface NextTokenModel extends Module {
  /**
   * Mean cross-entropy in nats over the targets that are not `ignoreIndex` (-100).
   * @param tokens i32 [B, N]
   * @param targets i32 [B, N]
   */
  loss(tokens: Tensor, targets: Tensor): Tensor;
}

/** Text divided for training and validation, whole files on either side. */
export interface TextData {
  readonly train: Uint8Array;
  readonly validation: Uint8Array;
  readonly trainFiles: readonly TextFile[];
  readonly validationFiles: readonly TextFile[];
  /** Files in directories that were left out, with the reason. */
  readonly skipped: readonly SkippedFile[];
}

/** Options of {@link loadTextData}. */
export interface TextDataOptions {
  /** Ends of the names of files taken from directories; all by default. */
  extensions?: readonly string[];
  /** Most bytes taken from directories; all by default. */
  maxBytes?: number;
  /** Share of the bytes that validates; 0.1 by default, less where that exceeds `validationBytes`. */
  validation?: number;
  /** Bytes of validation text that are enough; no limit by default. */
  validationBytes?: number;
  /** Seed of the choice of validation files; 0 by default. */
  seed?: number;
  signal?: AbortSignal;
}

/**
 * Loads text files and directories, and divides them by file.
 *
 * @throws FileError, FormatError see `loadCorpus`
 * @example
 * await writeFileAtomic('to-be.txt', 'to be, or not to be: that is the question\n'.repeat(100));
 * const { train, validation } = await loadTextData('to-be.txt', { validation: 0.2 });
 */
export async function loadTextData(
  paths: string | readonly string[],
  options: TextDataOptions = {},
): Promise<TextData> {
  checkOptions('loadTextData', options, [
    'extensions',
    'maxBytes',
    'validation',
    'validationBytes',
    'seed',
    'signal',
  ]);
  const { validation: share = 0.1, validationBytes = Number.POSITIVE_INFINITY, ...rest } = options;
  const { seed = 0 } = options;
  checkSizes('loadTextData', { seed }, 0);
  for (const [name, value] of Object.entries({ validation: share, validationBytes })) {
    if (typeof value === 'number' && value > 0) continue;
    const remedy = 'Give a number above 0, or leave it out';
    throw new ArgumentError('ERR_OPTION', 'loadTextData', name, show(value), remedy);
  }
  const corpus = await loadCorpus(paths, rest);
  const validation = Math.min(share, validationBytes / corpus.totalBytes);
  const split = splitCorpus(corpus.files, { validation, seed });
  return {
    train: concatenate(split.train),
    validation: concatenate(split.validation),
    trainFiles: split.train,
    validationFiles: split.validation,
    skipped: corpus.skipped,
  };
}

function checkModel(operator: string, model: NextTokenModel): void {
  checkInstance(operator, 'model', model, Module);
  if (typeof model.loss === 'function') return;
  const remedy = 'Pass a language model: one with loss(tokens, targets)';
  throw new ArgumentError('ERR_VALUE', operator, 'model', show(model), remedy);
}

/**
 * The loss of a model on a batch of text: mean nats per byte, a scalar.
 *
 * @example
 * const model = new TransformerLM({ vocabSize: 256, dModel: 32, layers: 1, heads: 2 });
 * const data = Buffer.from('to be, or not to be: that is the question');
 * const batch = new BatchSampler({ data, batch: 4, length: 8 }).next();
 * backward(textLoss(model, batch));
 */
export function textLoss(model: NextTokenModel, batch: TextBatch): Tensor {
  checkModel('textLoss', model);
  checkObject('textLoss', 'batch', batch, '{ inputs, targets, batch, length } of a sampler');
  checkSizes('textLoss', { batch: batch.batch, length: batch.length });
  const shape = [batch.batch, batch.length];
  const device = model.parameters()[0]?.device;
  return model.loss(
    tensor(batch.inputs, { shape, device }),
    tensor(batch.targets, { shape, device }),
  );
}

/** Options of {@link evaluateText}. */
export interface EvaluateTextOptions {
  /** Windows computed at once. */
  batch: number;
  /** Bytes of a window. */
  length: number;
  /** Batches after which to stop; all of the text by default. */
  maxBatches?: number;
  signal?: AbortSignal;
}

/**
 * Mean loss of a model on a text, in nats per byte: every byte but the first is predicted once, from
 * the bytes before it in its window. Dropout is off meanwhile; the model's mode is as before afterwards.
 *
 * @throws AbortError when `signal` fires between two batches
 * @example
 * const model = new TransformerLM({ vocabSize: 256, dModel: 32, layers: 1, heads: 2 });
 * const validation = Buffer.from('to be, or not to be: that is the question');
 * const nats = await evaluateText(model, validation, { batch: 2, length: 8 });
 * console.log(nats / Math.LN2); // bits per byte
 */
export async function evaluateText(
  model: NextTokenModel,
  data: Uint8Array,
  options: EvaluateTextOptions,
): Promise<number> {
  checkOptions('evaluateText', options, ['batch', 'length', 'maxBatches', 'signal']);
  checkModel('evaluateText', model);
  checkArray('evaluateText', 'data', data, 'Uint8Array');
  const { batch, length, maxBatches, signal } = options;
  checkSizes('evaluateText', { batch, length, ...(maxBatches !== undefined && { maxBatches }) });
  checkSignal('evaluateText', signal);
  const training = model.training;
  model.eval();
  try {
    let sum = 0;
    let count = 0;
    let previous: { loss: Promise<number>; count: number } | undefined;
    // One batch is read while the next one is computed.
    const settle = async (): Promise<void> => {
      if (!previous) return;
      sum += (await previous.loss) * previous.count;
      count += previous.count;
    };
    for (const one of evaluationBatches(data, { batch, length, maxBatches })) {
      if (signal?.aborted) throw new AbortError('evaluation was aborted', { cause: signal.reason });
      const value = tidy(() => noGrad(() => textLoss(model, one)));
      const loss = value.item();
      value.dispose();
      loss.catch(() => undefined); // awaited in settle, perhaps after another error
      await settle();
      previous = { loss, count: one.count };
    }
    await settle();
    return sum / count;
  } finally {
    model.train(training);
  }
}
