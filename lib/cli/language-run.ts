/** A training run of a language model on a terminal: what `train` and `quickstart` share. */

import {
  AbortError,
  finishRun,
  History,
  type LanguageModelName,
  type LanguageRecipe,
  type LanguageRunOptions,
  loadTextData,
  type NgramBaselines,
  ngramBaselines,
  type RunDirectory,
  readCheckpointInfo,
  type TextData,
  type TrainResult,
  type TransformerLM,
  trainLanguageModel,
} from '../index.js';
import { formatBytes, formatCount, formatDuration } from './format.js';
import { onInterrupt } from './interrupt.js';
import { trainingProgress } from './progress.js';

/** A run and what is said around it. */
export interface TerminalRun extends Omit<LanguageRunOptions, 'run' | 'onProgress' | 'signal'> {
  directory: RunDirectory;
  /** Text files and directories. */
  texts: readonly string[];
  extensions?: readonly string[];
  /** Share of the text that validates, and bytes of it that are enough. */
  validation?: number;
  validationBytes?: number;
  recipe: LanguageRecipe;
  /** Seconds after the start of this process at which training ends, whatever is left. */
  deadline?: number;
  /** Commands to try next, one a line. */
  next?: readonly string[];
}

const say = (line = ''): boolean => process.stderr.write(`${line}\n`);

/** `name   text`, the names in one column. */
const row = (name: string, text: string): boolean => say(`  ${name.padEnd(12)} ${text}`);

function describeText(data: TextData): void {
  const files = (n: number): string => `${formatCount(n)} ${n === 1 ? 'file' : 'files'}`;
  const [train, validation] = [formatBytes(data.train.length), formatBytes(data.validation.length)];
  const shared = data.trainFiles.some(({ name }) => data.validationFiles[0]?.name === name);
  row('text', `${train} in ${files(data.trainFiles.length)}`);
  row(
    'validation',
    shared
      ? `${validation}, the end of the file, not trained on`
      : `${validation} in ${files(data.validationFiles.length)}, not trained on`,
  );
  const skipped = data.skipped.filter(({ reason }) => reason !== 'duplicate');
  if (skipped.length > 0) row('left out', `${files(skipped.length)}, empty, not text, or of a run`);
}

/** What architectures are called in sentences. */
const modelNames: Readonly<Record<LanguageModelName, string>> = {
  transformer: 'Transformer',
  reformer: 'Reformer',
  'routing-transformer': 'Routing Transformer',
};

function describeModel(model: TransformerLM, recipe: LanguageRecipe, device: string): void {
  const { dim, layers, heads, sequence, batch, accumulate = 1, steps, dtype = 'f32' } = recipe;
  const name = modelNames[recipe.model ?? 'transformer'];
  row(
    'model',
    `${name}, ${formatCount(model.parameterCount())} parameters: ${layers} layers, width ${dim}, ${heads} heads`,
  );
  row(
    'training',
    `${formatCount(steps)} steps of ${batch * accumulate} x ${sequence} bytes, ${dtype} on ${device}`,
  );
}

/** The results side by side, the smallest marked. */
function resultTable(rows: readonly { name: string; bits: number }[]): string {
  const best = Math.min(...rows.map(({ bits }) => bits));
  const width = Math.max(...rows.map(({ name }) => name.length));
  const worst = Math.max(...rows.map(({ bits }) => bits));
  return rows
    .map(({ name, bits }) => {
      const bar = '█'.repeat(Math.max(1, Math.round((24 * bits) / worst)));
      return `  ${name.padEnd(width)}  ${bits.toFixed(3)}  ${bar}${bits === best ? ' best' : ''}`;
    })
    .join('\n');
}

/** What a run on a terminal ends with. */
export interface TerminalResult {
  readonly model: TransformerLM;
  readonly result: TrainResult;
  /** Validation, in bits per byte. */
  readonly bitsPerByte: number;
  readonly baselines: NgramBaselines;
}

/**
 * Trains with progress on standard error, and ends with a table of validation bits per byte beside the
 * unigram and trigram models fitted to the same training text.
 */
export async function runLanguageModel(options: TerminalRun): Promise<TerminalResult> {
  const {
    directory,
    texts,
    extensions,
    validation,
    validationBytes,
    recipe,
    deadline,
    next,
    ...rest
  } = options;
  const { device = 'cpu', onModel } = rest;
  let note = say;
  using interrupt = onInterrupt(() =>
    note('stopping after this step, then saving (again to end at once)'),
  );
  const { signal } = interrupt;
  const seed = recipe.seed ?? 0;
  const data = await loadTextData(texts, { extensions, validation, validationBytes, seed, signal });
  describeText(data);
  const bytes = (files: TextData['trainFiles']): Uint8Array[] => files.map((file) => file.bytes);
  const baselines = ngramBaselines(bytes(data.trainFiles), data.validation);
  const progress = trainingProgress({ totalSteps: recipe.steps });
  note = (line = '') => {
    progress.note(line);
    return true;
  };
  try {
    const { model, result } = await trainLanguageModel(data, recipe, {
      ...rest,
      run: directory,
      signal,
      ...(deadline !== undefined && {
        timeLimit: Math.max(1, deadline - performance.now() / 1000),
      }),
      onModel(made) {
        describeModel(made, recipe, device);
        onModel?.(made);
      },
      onProgress: (status) => progress.update(status),
      onEvaluation({ step, loss }) {
        note(`  step ${step}: validation ${(loss / Math.LN2).toFixed(3)} bits per byte`);
      },
    });
    progress.stop();
    const bitsPerByte = (result.history.evaluations.at(-1)?.loss ?? Number.NaN) / Math.LN2;
    const references = [
      { name: 'unigram', y: baselines.unigram },
      { name: 'trigram', y: baselines.trigram },
    ];
    await finishRun(directory, model, result, references);
    describeResult(result, recipe.steps);
    say('Validation, in bits per byte (smaller is better):');
    const trained = {
      name: `this ${modelNames[recipe.model ?? 'transformer']}`,
      bits: bitsPerByte,
    };
    say(resultTable([...references.map(({ name, y }) => ({ name, bits: y })), trained]));
    say();
    row('weights', directory.modelPath);
    row('curve', directory.curvePath);
    if (next && next.length > 0) say(`\nNext:\n${next.map((line) => `  ${line}`).join('\n')}`);
    return { model, result, bitsPerByte, baselines };
  } catch (error) {
    progress.stop();
    if (error instanceof AbortError) await saveCurveOf(directory);
    throw error;
  }
}

function describeResult({ step, ended, tokens, seconds }: TrainResult, steps: number): void {
  const early = ended === 'time' ? ` of ${formatCount(steps)}, ended by the time limit` : '';
  say(
    `\nTrained ${formatCount(step)} steps${early}: ${formatBytes(tokens)} read in ${formatDuration(seconds)}.\n`,
  );
}

/** The picture of a run that was stopped, from its last checkpoint. */
async function saveCurveOf(directory: RunDirectory): Promise<void> {
  const latest = directory.latest();
  if (!latest) return;
  const { training } = await readCheckpointInfo(latest.path);
  const { history } = training as { history: Parameters<typeof History.from>[0] };
  await directory.writeCurve(History.from(history));
  say(`saved: ${latest.path}`);
}
