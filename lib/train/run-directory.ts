/** The directory of a training run: its checkpoints, which of them stay, its pictures. */

import * as fs from 'node:fs';
import * as path from 'node:path';
import { writeFileAtomic } from '../core/atomic-file.js';
import { CheckpointError, FileError } from '../core/errors.js';
import { checkInstance, checkOptions, checkSizes, checkText } from '../core/options.js';
import { History } from './history.js';
import { renderCurveSvg } from './report/curve.js';

/** A checkpoint in a run's directory. */
export interface StoredCheckpoint {
  readonly step: number;
  readonly path: string;
}

const pattern = /^step-(\d+)\.safetensors$/;
const temporary = /^\..*\.(\d+)-[0-9a-f]+\.tmp$/;

/**
 * Where a run keeps its files:
 *
 * - `step-000100.safetensors`: the last checkpoints, complete with the state of the training;
 * - `best.safetensors`: the checkpoint with the smallest validation loss;
 * - `model.safetensors`: the weights at the end, alone;
 * - `loss.svg`: the losses as a picture.
 *
 * @example
 * const run = openRun('runs/book');
 * run.latest()?.step; // where it would resume
 */
export class RunDirectory {
  /** @param path the directory, which exists */
  constructor(readonly path: string) {
    checkText('RunDirectory', 'path', path);
  }

  checkpointPath(step: number): string {
    checkSizes('RunDirectory.checkpointPath', { step }, 0);
    return this.file(`step-${String(step).padStart(6, '0')}.safetensors`);
  }
  get bestPath(): string {
    return this.file('best.safetensors');
  }
  get modelPath(): string {
    return this.file('model.safetensors');
  }
  get curvePath(): string {
    return this.file('loss.svg');
  }

  /** Checkpoints by ascending step, `best` not among them. */
  checkpoints(): StoredCheckpoint[] {
    return fs
      .readdirSync(this.path)
      .map((name) => ({ name, match: pattern.exec(name) }))
      .filter(({ match }) => match !== null)
      .map(({ name, match }) => ({ step: Number(match?.[1]), path: this.file(name) }))
      .sort((a, b) => a.step - b.step);
  }

  /** The checkpoint of the highest step. */
  latest(): StoredCheckpoint | undefined {
    return this.checkpoints().at(-1);
  }

  /** Removes all but the last `keep` checkpoints; `best` is a file of its own and stays. */
  prune(keep: number): void {
    checkSizes('RunDirectory.prune', { keep });
    for (const { path: file } of this.checkpoints().slice(0, -keep)) fs.rmSync(file);
  }

  /** Makes the checkpoint of a step the best one as well, without a copy where links are possible. */
  markBest(step: number): void {
    const checkpoint = this.checkpointPath(step);
    const fresh = this.file(`.best.${process.pid}-0.tmp`);
    fs.rmSync(fresh, { force: true });
    try {
      try {
        fs.linkSync(checkpoint, fresh);
      } catch {
        fs.copyFileSync(checkpoint, fresh);
      }
      fs.renameSync(fresh, this.bestPath);
    } catch (error) {
      throw new FileError(`cannot make '${checkpoint}' the best: ${(error as Error).message}`, {
        operator: 'RunDirectory.markBest',
        argument: 'step',
        value: String(step),
        remedy: 'Give a step that was saved, in a directory that can be written',
        cause: error,
      });
    }
  }

  /** Draws the losses, in bits per token: bits per byte where tokens are bytes. */
  async writeCurve(
    history: History,
    options: { title?: string; unit?: string; references?: { name: string; y: number }[] } = {},
  ): Promise<void> {
    checkInstance('RunDirectory.writeCurve', 'history', history, History);
    checkOptions('RunDirectory.writeCurve', options, ['title', 'unit', 'references']);
    const { steps, losses } = history.training;
    if (steps.length === 0) return;
    const { title = path.basename(this.path), unit = 'bits per byte', references = [] } = options;
    const { evaluations } = history;
    const series = [{ name: 'training', x: steps, y: losses.map(toBits), smooth: true }];
    const validation = {
      name: 'validation',
      x: evaluations.map(({ step }) => step),
      y: evaluations.map(({ loss }) => toBits(loss)),
      points: true,
    };
    const svg = renderCurveSvg({
      title,
      series: evaluations.length > 0 ? [...series, validation] : series,
      references,
      xLabel: 'step',
      yLabel: unit,
    });
    await writeFileAtomic(this.curvePath, svg);
  }

  /** Removes what processes that were killed while they saved have left. */
  sweep(): void {
    for (const name of fs.readdirSync(this.path)) {
      const pid = Number(temporary.exec(name)?.[1] ?? 0);
      if (pid > 0 && !isRunning(pid)) fs.rmSync(this.file(name), { force: true });
    }
  }

  private file(name: string): string {
    return path.join(this.path, name);
  }
}

const toBits = (nats: number): number => nats / Math.LN2;

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Opens the directory of a run and makes it where it is missing.
 *
 * @throws FileError when it cannot be made or is no directory
 * @example
 * const run = openRun('runs/book'); // made if it does not exist
 * console.log(run.checkpoints().map(({ step }) => step));
 */
export function openRun(directory: string): RunDirectory {
  checkText('openRun', 'directory', directory);
  try {
    fs.mkdirSync(directory, { recursive: true });
    fs.accessSync(directory, fs.constants.W_OK);
  } catch (error) {
    throw new FileError(`cannot use '${directory}' for a run: ${(error as Error).message}`, {
      argument: 'run',
      value: directory,
      remedy: 'Give a directory that can be written',
      cause: error,
    });
  }
  const run = new RunDirectory(directory);
  run.sweep();
  return run;
}

/**
 * The checkpoint file that a path means: a file itself; of a run's directory its best checkpoint,
 * else its latest, else its final weights.
 *
 * @throws FileError when there is nothing at `path`
 * @throws CheckpointError when a directory holds no checkpoint
 * @example
 * const model = new Linear(4, 2);
 * await saveCheckpoint(openRun('runs/linear').bestPath, model, { step: 100 });
 * await loadCheckpoint(findCheckpoint('runs/linear'), model);
 */
export function findCheckpoint(given: string): string {
  checkText('findCheckpoint', 'checkpoint', given);
  let directory: boolean;
  try {
    directory = fs.statSync(given).isDirectory();
  } catch (error) {
    throw new FileError(`there is no checkpoint at '${given}'`, {
      argument: 'checkpoint',
      value: given,
      remedy: 'Give a .safetensors file or the directory of a run',
      cause: error,
    });
  }
  if (!directory) return given;
  const run = new RunDirectory(given);
  const found = [run.bestPath, run.latest()?.path, run.modelPath].find(
    (file) => file !== undefined && fs.existsSync(file),
  );
  if (found !== undefined) return found;
  throw new CheckpointError(`'${given}' holds no checkpoint`, {
    argument: 'checkpoint',
    value: given,
    remedy: 'Give the directory of a run that has saved, or a .safetensors file',
  });
}
