/** The training loop. */

import { backward } from '../core/autograd/index.js';
import { asTensor, show } from '../core/declare.js';
import type { Device } from '../core/device.js';
import { AbortError, ArgumentError, CheckpointError, OperatorError } from '../core/errors.js';
import { Generator, type GeneratorState } from '../core/generator.js';
import {
  checkFlags,
  checkFunction,
  checkInstance,
  checkNumbers,
  checkObject,
  checkOptions,
  checkSignal,
  checkText,
} from '../core/options.js';
import { tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { Module } from '../nn/index.js';
import { Optimizer } from '../optim/index.js';
import type { Schedule } from '../optim/schedules.js';
import { loadCheckpoint, loadOptimizerTensors, saveCheckpoint } from './checkpoint.js';
import { type Evaluation, History, type HistoryState } from './history.js';
import { Pace } from './pace.js';
import { RunDirectory } from './run-directory.js';
import type { BatchSource } from './source.js';
import { Updater, type UpdaterOptions } from './updater.js';

/** Where a run stands; given to `onProgress` after every step, one step late. */
export interface TrainProgress {
  /** Steps done, and steps of the whole run. */
  readonly step: number;
  readonly steps: number;
  /** Training loss of the step, in nats per token. */
  readonly loss: number;
  /** The same in bits per byte, where tokens are bytes. */
  readonly bitsPerByte?: number;
  /** The latest validation result in bits per byte, where tokens are bytes. */
  readonly validationBitsPerByte?: number;
  /** The latest evaluation. */
  readonly evaluation?: Evaluation;
  /** Tokens since the run, or its resumption, began. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Seconds since the run, or its resumption, began. */
  readonly elapsed: number;
  /** Seconds left, by steps or time limit, whichever ends first. */
  readonly timeLeft: number;
  readonly learningRate: number;
  /** Norm of the gradient of all parameters together, before clipping. */
  readonly gradientNorm: number;
}

/** Options of {@link train}. */
export interface TrainOptions<M extends Module, B> extends UpdaterOptions {
  /** Mean loss of a batch, a scalar with a graph. */
  loss: (model: M, batch: B) => Tensor;
  /** Optimizer steps of the whole run, those before a resumption included. */
  steps: number;
  /** Seconds after which the run ends early, complete and saved. */
  timeLimit?: number;
  /** Learning rate of each step, the first being 1; the optimizer's own rate by default. */
  schedule?: Schedule;
  /** Batches whose gradients are averaged before a step; 1 by default. */
  accumulate?: number;
  /** Tokens in a batch, for rates; 0 by default. */
  tokensPerBatch?: number;
  /** Whether tokens are bytes, so that losses are bits per byte too; false by default. */
  bytes?: boolean;
  /** Validation loss in nats per token. */
  evaluate?: (signal?: AbortSignal) => Promise<number>;
  /** Steps between evaluations; at the end alone by default. */
  evaluateEvery?: number;
  /** Where checkpoints go; nothing is saved without it. */
  run?: RunDirectory;
  /** Steps between checkpoints; after evaluations and at the end by default. */
  saveEvery?: number;
  /** Last checkpoints to keep beside the best one; 2 by default. */
  keep?: number;
  /** A checkpoint to go on from, bit for bit. */
  resume?: string;
  /** Generators the model draws from, by name: they are saved and restored. */
  generators?: Readonly<Record<string, Generator>>;
  /** Kept in every checkpoint, for the program that trains. */
  notes?: Readonly<Record<string, unknown>>;
  onProgress?: (progress: TrainProgress) => void;
  /** Called after an evaluation. */
  onEvaluation?: (evaluation: Evaluation) => void;
  /** Finishes the step, saves, and makes `train` throw an AbortError. */
  signal?: AbortSignal;
}

/** How a run ended. */
export interface TrainResult {
  /** Steps done. */
  readonly step: number;
  /** What ended it. */
  readonly ended: 'steps' | 'time';
  readonly history: History;
  /** Tokens and seconds since the run, or its resumption, began. */
  readonly tokens: number;
  readonly seconds: number;
  /** The last checkpoint, where there is a directory. */
  readonly checkpoint?: string;
}

/** The JSON part of a checkpoint. */
interface SavedTraining {
  readonly source: unknown;
  readonly generators: Readonly<Record<string, GeneratorState>>;
  readonly history: HistoryState;
}

const optionNames = [
  'loss',
  'steps',
  'timeLimit',
  'schedule',
  'accumulate',
  'tokensPerBatch',
  'bytes',
  'evaluate',
  'evaluateEvery',
  'run',
  'saveEvery',
  'keep',
  'resume',
  'generators',
  'notes',
  'onProgress',
  'onEvaluation',
  'signal',
  'optimizer',
  'clip',
  'lossScale',
];

function checkCounts(options: Readonly<Record<string, number | undefined>>): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || (Number.isSafeInteger(value) && value >= 1)) continue;
    throw new ArgumentError('ERR_OPTION', 'train', name, show(value), 'Give an integer >= 1');
  }
}

/** Refuses what a run cannot be made of, before anything is changed. */
function checkParts<M extends Module, B>(
  model: M,
  source: BatchSource<B>,
  options: TrainOptions<M, B>,
): void {
  checkInstance('train', 'model', model, Module);
  if (model.parameters().length === 0) {
    const remedy = 'Pass a module that has parameters';
    throw new ArgumentError('ERR_VALUE', 'train', 'model', show(model), remedy);
  }
  checkObject('train', 'source', source, '{ next, state, restore }; textSource makes one');
  for (const name of ['next', 'state', 'restore'] as const) {
    checkFunction('train', source[name], `source.${name}`);
  }
  checkFunction('train', options.loss, 'loss');
  checkInstance('train', 'optimizer', options.optimizer, Optimizer);
  for (const name of ['schedule', 'evaluate', 'onProgress', 'onEvaluation'] as const) {
    if (options[name] !== undefined) checkFunction('train', options[name], name);
  }
  const { run, resume, bytes, tokensPerBatch, generators = {}, signal } = options;
  if (run !== undefined) checkInstance('train', 'run', run, RunDirectory);
  if (resume !== undefined) checkText('train', 'resume', resume);
  checkFlags('train', { bytes });
  checkNumbers('train', { tokensPerBatch }, 0);
  checkObject('train', 'generators', generators, 'Generators by name');
  for (const [name, generator] of Object.entries(generators)) {
    checkInstance('train', `generators.${name}`, generator, Generator);
  }
  checkSignal('train', signal);
}

/** Losses of a step that may not have been computed yet. */
interface Pending {
  readonly step: number;
  readonly rate: number;
  readonly losses: Promise<number[]>;
  /** Norm of the gradient before clipping. */
  readonly norm: Promise<number>;
  /** Tokens up to and with this step. */
  readonly tokens: number;
}

/** Keeps a rejection from counting as unhandled before somebody awaits it. */
function later<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** Reads a scalar once it is computed; the tensor itself is let go at once. */
function readOnce(scalar: Tensor): Promise<number> {
  const value = later(scalar.item());
  scalar.dispose();
  return value;
}

class Training<M extends Module, B> {
  readonly device: Device;
  readonly updater: Updater;
  readonly pace: Pace;
  history = new History();
  step = 0;
  tokens = 0;
  saved = -1;
  private readonly pending: Pending[] = [];

  constructor(
    readonly model: M,
    readonly source: BatchSource<B>,
    readonly options: TrainOptions<M, B>,
  ) {
    this.device = (model.parameters()[0] as Tensor).device;
    this.updater = new Updater(model, options);
    this.pace = new Pace(options.steps, options.timeLimit);
  }

  async resume(path: string): Promise<void> {
    const info = await loadCheckpoint(path, this.model);
    const training = info.training as SavedTraining | undefined;
    if (!training?.history || !training.generators) {
      throw new CheckpointError(`'${path}' holds weights alone, not the state of a training run`, {
        operator: 'train',
        argument: 'resume',
        value: path,
        remedy: 'Resume from a step-*.safetensors file of the run',
      });
    }
    this.history = History.from(training.history);
    this.source.restore(training.source);
    for (const [name, generator] of Object.entries(this.options.generators ?? {})) {
      const state = training.generators[name];
      if (state) generator.setState(state);
      else throw new CheckpointError(`'${path}' has no state of the generator '${name}'`);
    }
    this.updater.restore(await loadOptimizerTensors(path, this.device));
    this.step = this.saved = info.step;
  }

  /** Enqueues one step; nothing here waits for arithmetic. */
  advance(): void {
    const { model, source, options, updater } = this;
    const { accumulate = 1, schedule, tokensPerBatch = 0 } = options;
    this.step++;
    const rate = schedule?.(this.step);
    const losses: Promise<number>[] = [];
    for (let i = 0; i < accumulate; i++) {
      const batch = source.next();
      const loss = tidy(() => {
        const value = asTensor('train', 'loss', options.loss(model, batch));
        backward(value, { gradient: updater.seed(value, accumulate) });
        return value;
      });
      losses.push(readOnce(loss));
    }
    const norm = readOnce(tidy(() => updater.apply(rate)));
    this.tokens += accumulate * tokensPerBatch;
    const { step, tokens } = this;
    const all = later(Promise.all(losses));
    this.pending.push({ step, rate: updater.rate, losses: all, norm, tokens });
  }

  /** Waits for the results of all steps but the last `behind`, and reports them. */
  async settle(behind = 0): Promise<void> {
    while (this.pending.length > behind) {
      const pending = this.pending[0];
      const losses = await pending.losses;
      const norm = await pending.norm;
      this.pending.shift();
      const loss = losses.reduce((sum, one) => sum + one, 0) / losses.length;
      if (!Number.isFinite(loss)) throw this.diverged(pending, 'training loss', loss);
      if (!Number.isFinite(norm) && !this.updater.scaled)
        throw this.diverged(pending, 'norm of the gradient', norm);
      this.history.add(pending.step, loss);
      this.pace.add(pending.step, pending.tokens);
      this.report(pending, loss, norm);
    }
  }

  /** Runs the evaluation and remembers its result. */
  async evaluate(): Promise<void> {
    const { evaluate, onEvaluation, signal } = this.options;
    if (!evaluate || this.history.evaluations.at(-1)?.step === this.step) return;
    let loss: number;
    try {
      loss = await evaluate(signal);
    } catch (error) {
      if (signal?.aborted) return; // the loop saves, and says so
      throw error;
    }
    if (!Number.isFinite(loss)) throw this.diverged({ step: this.step }, 'validation loss', loss);
    const evaluation = { step: this.step, loss };
    this.history.addEvaluation(evaluation);
    onEvaluation?.(evaluation);
  }

  async save(): Promise<void> {
    const { run, keep = 2, notes } = this.options;
    if (!run || this.saved === this.step) return;
    await this.settle();
    const generators: Record<string, GeneratorState> = {};
    for (const [name, generator] of Object.entries(this.options.generators ?? {}))
      generators[name] = await generator.state();
    const training: SavedTraining = {
      source: this.source.state(),
      generators,
      history: this.history.state(),
    };
    await saveCheckpoint(run.checkpointPath(this.step), this.model, {
      step: this.step,
      optimizer: this.updater.tensors(),
      training: training as unknown as Record<string, unknown>,
      notes,
    });
    this.saved = this.step;
    if (this.history.best?.step === this.step) run.markBest(this.step);
    run.prune(keep);
  }

  /** Saves what there is, and ends the run for the caller who asked for that. */
  async stop(signal: AbortSignal): Promise<never> {
    await this.settle();
    await this.save();
    const { run } = this.options;
    throw new AbortError(`training stopped at step ${this.step}`, {
      operator: 'train',
      ...(run && { remedy: `Resume from ${run.checkpointPath(this.step)}` }),
      cause: signal.reason,
    });
  }

  private report({ step, rate, tokens }: Pending, loss: number, gradientNorm: number): void {
    const { onProgress, steps, bytes } = this.options;
    if (!onProgress) return;
    const evaluation = this.history.evaluations.at(-1);
    onProgress({
      step,
      steps,
      loss,
      ...(bytes ? { bitsPerByte: loss / Math.LN2 } : {}),
      ...(bytes && evaluation ? { validationBitsPerByte: evaluation.loss / Math.LN2 } : {}),
      ...(evaluation ? { evaluation } : {}),
      tokens,
      ...this.pace.now(),
      learningRate: rate,
      gradientNorm,
    });
  }

  private diverged({ step }: { step: number }, what: string, value: number): OperatorError {
    const kept = this.saved >= 0 && this.options.run ? `; step ${this.saved} is saved` : '';
    return new OperatorError(`train: the ${what} became ${value} at step ${step}${kept}`, {
      operator: 'train',
      argument: 'loss',
      value: String(value),
      remedy:
        'Lower the learning rate, lengthen the warm-up, clip gradients, or train in f32; then resume from the last checkpoint',
    });
  }
}

/**
 * Trains a model until `steps` or `timeLimit`.
 *
 * Steps are enqueued one ahead of the device; losses are read one step late, so the device never
 * waits for JavaScript. With `run`, checkpoints are written after evaluations, every `saveEvery` steps
 * and at the end, and a run that `resume`s continues bit for bit: weights, optimizer, generators and data.
 *
 * @param model its parameters are changed; it is left in training mode
 * @param source batches; its state is saved with the run
 * @throws ArgumentError for what a run cannot be made of
 * @throws OperatorError when a loss is NaN or infinite, with the step; what was saved stays
 * @throws AbortError when `signal` fires, after the step is finished and saved
 * @throws CheckpointError when `resume` is from another model or other data
 * @example
 * const data = Buffer.from('to be, or not to be: that is the question. '.repeat(20));
 * const model = new TransformerLM({ vocabSize: 256, dModel: 32, layers: 1, heads: 2 });
 * await train(model, textSource({ data, batch: 4, length: 32 }), {
 *   loss: textLoss,
 *   optimizer: new AdamW(model.namedParameters(), { lr: 1e-3 }),
 *   steps: 10,
 *   schedule: cosineSchedule({ rate: 1e-3, steps: 10, warmup: 2 }),
 *   clip: 1,
 * });
 */
export async function train<M extends Module, B>(
  model: M,
  source: BatchSource<B>,
  options: TrainOptions<M, B>,
): Promise<TrainResult> {
  checkOptions('train', options, optionNames);
  const { steps, accumulate, evaluateEvery, saveEvery, keep, timeLimit, signal } = options;
  checkCounts({ steps, accumulate, evaluateEvery, saveEvery, keep });
  checkParts(model, source, options);
  if (timeLimit !== undefined && !(typeof timeLimit === 'number' && timeLimit > 0)) {
    throw new ArgumentError('ERR_OPTION', 'train', 'timeLimit', show(timeLimit), 'Give seconds');
  }
  const run = new Training(model, source, options);
  if (options.resume !== undefined) await run.resume(options.resume);
  model.train();
  // An evaluation that was interrupted is made up for.
  if (evaluateEvery !== undefined && run.step > 0 && run.step % evaluateEvery === 0)
    await run.evaluate();
  run.pace.start(run.step);
  let ended: TrainResult['ended'] = 'steps';
  while (run.step < steps) {
    if (signal?.aborted) return await run.stop(signal);
    if (timeLimit !== undefined && run.pace.exceeded()) {
      ended = 'time';
      break;
    }
    await run.device.ready();
    run.advance();
    await run.settle(1); // the device computes this step while the last one is reported
    const evaluates = evaluateEvery !== undefined && run.step % evaluateEvery === 0;
    const saves = saveEvery !== undefined ? run.step % saveEvery === 0 : evaluates;
    if (evaluates || saves) await run.settle();
    if (evaluates) await run.evaluate();
    if (saves || (evaluates && run.history.best?.step === run.step)) await run.save();
  }
  await run.settle();
  await run.evaluate();
  if (signal?.aborted) return await run.stop(signal);
  await run.save();
  return {
    step: run.step,
    ended,
    history: run.history,
    tokens: run.tokens,
    seconds: run.pace.now().elapsed,
    ...(options.run ? { checkpoint: options.run.checkpointPath(run.step) } : {}),
  };
}
