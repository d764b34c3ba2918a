/** A byte-level language model trained on text: model, optimizer, schedule and data put together. */

import { show } from '../core/declare.js';
import { type DType, isFloating } from '../core/dtype.js';
import { ArgumentError } from '../core/errors.js';
import { Generator } from '../core/generator.js';
import {
  checkArray,
  checkFunction,
  checkInstance,
  checkList,
  checkNumbers,
  checkObject,
  checkOptions,
  checkSizes,
} from '../core/options.js';
import {
  Reformer,
  type ReformerAttention,
  type RoutingOptions,
  RoutingTransformer,
  TransformerLM,
  type TransformerLMOptions,
} from '../models/index.js';
import { AdamW } from '../optim/index.js';
import { cosineSchedule } from '../optim/schedules.js';
import { saveCheckpoint } from './checkpoint.js';
import { History } from './history.js';
import { evaluateText, type TextData, textLoss } from './language.js';
import { RunDirectory } from './run-directory.js';
import { textSource } from './source.js';
import { type TrainOptions, type TrainResult, train } from './trainer.js';

/** Architectures of language models. */
export type LanguageModelName = 'transformer' | 'reformer' | 'routing-transformer';

/** What a run is made of; fit for JSON, and kept in its checkpoints. */
export interface LanguageRecipe {
  /** Default `transformer`. */
  model?: LanguageModelName;
  /** What the architecture takes beside the sizes below: see `ReformerOptions`, `RoutingTransformerOptions`. */
  options?: ReformerAttention | RoutingOptions | { reversible?: boolean };
  /** Width of the model, a multiple of `heads`. */
  dim: number;
  layers: number;
  heads: number;
  /** Width of the feed-forward part; the model's own choice by default. */
  feedForward?: number;
  dropout?: number;
  /** Bytes the model is trained to read. */
  sequence: number;
  /** Windows in a batch, and batches in a step. */
  batch: number;
  accumulate?: number;
  steps: number;
  /** Highest learning rate; it falls to a tenth of it along half a cosine. */
  rate: number;
  /** Steps of increase; 5 % of all by default. */
  warmup?: number;
  weightDecay?: number;
  clip?: number;
  /** Of parameters and activations; the optimizer keeps f32 beside 16-bit parameters. */
  dtype?: DType;
  seed?: number;
}

/** What is not part of the recipe: where and how it runs. */
export interface LanguageRunOptions
  extends Pick<
    TrainOptions<TransformerLM, unknown>,
    | 'run'
    | 'resume'
    | 'timeLimit'
    | 'evaluateEvery'
    | 'saveEvery'
    | 'keep'
    | 'notes'
    | 'onProgress'
    | 'onEvaluation'
    | 'signal'
  > {
  /** Default `cpu`. */
  device?: string;
  /** Called once the model is made and before the first step. */
  onModel?: (model: TransformerLM) => void;
}

const recipeNames = [
  ...['model', 'options', 'dim', 'layers', 'heads', 'feedForward', 'dropout', 'sequence', 'batch'],
  ...['accumulate', 'steps', 'rate', 'warmup', 'weightDecay', 'clip', 'dtype', 'seed'],
];

function checkRecipe(operator: string, recipe: LanguageRecipe): void {
  checkOptions(operator, recipe, recipeNames);
  const { dim, layers, heads, sequence, batch, steps, rate, options } = recipe;
  checkSizes(operator, { dim, layers, heads, sequence, batch, steps });
  checkNumbers(operator, { rate: rate ?? Number.NaN }, 0);
  const { seed = 0, warmup = 0, weightDecay } = recipe;
  checkSizes(operator, { seed, warmup }, 0);
  checkNumbers(operator, { weightDecay });
  if (options !== undefined) checkObject(operator, 'options', options, 'those of the model');
}

/**
 * The model that a recipe describes, with its initial weights.
 *
 * @example
 * const recipe = { dim: 32, layers: 1, heads: 2, sequence: 32, batch: 4, steps: 5, rate: 2e-3 };
 * const model = makeLanguageModel(recipe, { generator: new Generator(1) });
 * model.forward(zeros([1, 32], { dtype: 'i32' })).shape; // [1, 32, 256]
 */
export function makeLanguageModel(
  recipe: LanguageRecipe,
  options: Pick<TransformerLMOptions, 'device' | 'generator'> = {},
): TransformerLM {
  checkRecipe('makeLanguageModel', recipe);
  checkOptions('makeLanguageModel', options, ['device', 'generator']);
  const { dim, layers, heads, feedForward, dropout = 0, sequence, dtype = 'f32' } = recipe;
  if (!isFloating(dtype)) {
    throw new ArgumentError(
      'ERR_DTYPE',
      'makeLanguageModel',
      'dtype',
      show(dtype),
      "Use 'f32', 'bf16' or 'f16'",
    );
  }
  if (dim % (2 * heads) !== 0) {
    throw new ArgumentError(
      'ERR_VALUE',
      'makeLanguageModel',
      'heads',
      `${heads} for a width of ${dim}`,
      'The width must be a multiple of twice the heads',
    );
  }
  const { model = 'transformer' } = recipe;
  const make = Object.hasOwn(architectures, model) && architectures[model];
  if (!make) {
    const remedy = `Use one of ${Object.keys(architectures).join(', ')}`;
    throw new ArgumentError('ERR_OPTION', 'makeLanguageModel', 'model', show(model), remedy);
  }
  return make({
    vocabSize: 256,
    dModel: dim,
    layers,
    heads,
    maxLength: sequence,
    dropout,
    dtype,
    ...(feedForward !== undefined && { feedForward }),
    ...recipe.options,
    ...options,
  });
}

const architectures: Readonly<
  Record<LanguageModelName, (options: TransformerLMOptions) => TransformerLM>
> = {
  transformer: (options) => new TransformerLM(options),
  reformer: (options) => new Reformer(options),
  'routing-transformer': (options) => new RoutingTransformer(options),
};

const runNames = [
  ...['run', 'resume', 'timeLimit', 'evaluateEvery', 'saveEvery', 'keep', 'notes', 'onProgress'],
  ...['onEvaluation', 'signal', 'device', 'onModel'],
];

/** Matrices decay, gains and biases do not. */
function parameterGroups(model: TransformerLM, weightDecay: number) {
  const all = [...model.namedParameters()];
  return [
    { params: all.filter(([, p]) => p.rank >= 2), weightDecay },
    { params: all.filter(([, p]) => p.rank < 2), weightDecay: 0 },
  ].filter(({ params }) => params.length > 0);
}

/**
 * Trains a byte-level Transformer on text, from a recipe. The same recipe, text and instruction-set
 * level give the same weights.
 *
 * @throws as {@link train}
 * @example
 * await writeFileAtomic('to-be.txt', 'to be, or not to be: that is the question\n'.repeat(100));
 * const data = await loadTextData('to-be.txt');
 * const recipe = { dim: 32, layers: 1, heads: 2, sequence: 32, batch: 4, steps: 5, rate: 2e-3 };
 * const { model, result } = await trainLanguageModel(data, recipe);
 */
export async function trainLanguageModel(
  data: TextData,
  recipe: LanguageRecipe,
  options: LanguageRunOptions = {},
): Promise<{ model: TransformerLM; result: TrainResult }> {
  checkRecipe('trainLanguageModel', recipe);
  checkObject('trainLanguageModel', 'data', data, 'what loadTextData gives');
  checkArray('trainLanguageModel', 'data.train', data.train, 'Uint8Array');
  checkArray('trainLanguageModel', 'data.validation', data.validation, 'Uint8Array');
  checkOptions('trainLanguageModel', options, runNames);
  if (options.onModel !== undefined) {
    checkFunction('trainLanguageModel', options.onModel, 'onModel');
  }
  const { steps, rate, sequence, batch, accumulate = 1, seed = 0 } = recipe;
  const { warmup = Math.ceil(steps / 20), weightDecay = 0.1, clip = 1 } = recipe;
  const { device, onModel, run, ...rest } = options;
  const generator = new Generator(seed, device);
  const model = makeLanguageModel(recipe, { device, generator });
  onModel?.(model);
  const source = textSource({ data: data.train, batch, length: sequence, seed });
  const result = await train(model, source, {
    ...rest,
    run,
    loss: textLoss,
    optimizer: new AdamW(parameterGroups(model, weightDecay), { lr: rate, betas: [0.9, 0.95] }),
    schedule: cosineSchedule({
      rate,
      steps,
      warmup: Math.min(warmup, steps - 1),
      floor: rate / 10,
    }),
    clip,
    steps,
    accumulate,
    tokensPerBatch: batch * sequence,
    bytes: true,
    generators: { model: generator },
    evaluate: (signal) =>
      evaluateText(model, data.validation, { batch: Math.max(batch, 8), length: sequence, signal }),
  });
  return { model, result };
}

/**
 * Draws the losses and writes the final weights of a run.
 *
 * @example
 * await writeFileAtomic('to-be.txt', 'to be, or not to be: that is the question\n'.repeat(100));
 * const data = await loadTextData('to-be.txt');
 * const recipe = { dim: 32, layers: 1, heads: 2, sequence: 32, batch: 4, steps: 5, rate: 2e-3 };
 * const run = openRun('runs/to-be');
 * const { model, result } = await trainLanguageModel(data, recipe, { run });
 * await finishRun(run, model, result);
 */
export async function finishRun(
  run: RunDirectory,
  model: TransformerLM,
  result: TrainResult,
  references: { name: string; y: number }[] = [],
): Promise<void> {
  checkInstance('finishRun', 'run', run, RunDirectory);
  checkObject('finishRun', 'result', result, 'what train gives');
  checkInstance('finishRun', 'result.history', result.history, History);
  checkList('finishRun', 'references', references, '{ name, y }');
  await saveCheckpoint(run.modelPath, model, { step: result.step });
  await run.writeCurve(result.history, { references });
}
