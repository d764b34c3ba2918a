/** The progress of a training run, as a bar on a terminal or as plain lines elsewhere. */

import type { SingleBar } from 'cli-progress';
import { formatDuration, formatRate } from './format.js';

/** Where a run stands. */
export interface TrainingStatus {
  /** Steps done. */
  readonly step: number;
  /** Training loss, in nats per token. */
  readonly loss: number;
  /** Training loss in bits per byte, where tokens are bytes. */
  readonly bitsPerByte?: number;
  /** Latest validation result, in bits per byte. */
  readonly validationBitsPerByte?: number;
  /** Tokens processed since the run, or its resumption, began. */
  readonly tokens: number;
}

/** Options of `trainingProgress`. */
export interface TrainingProgressOptions {
  /** Steps of the whole run. */
  totalSteps: number;
  /** Step the run resumes at; 0 by default. Its rate is not counted into the time left. */
  startStep?: number;
  /** Where to write; standard error by default, so that output can be piped. */
  stream?: NodeJS.WriteStream;
  /** Seconds between plain lines where `stream` is no terminal; 10 by default. */
  lineSeconds?: number;
  /** Clock in milliseconds, for tests. */
  now?: () => number;
}

/** Shows progress; every method is cheap enough to call in each step. */
export interface TrainingProgress {
  update(status: TrainingStatus): void;
  /** Writes a line of its own above the bar. */
  note(line: string): void;
  /** Ends the bar and leaves its last state on the screen. Idempotent. */
  stop(): void;
}

/**
 * The part of a progress line behind the bar: loss, rate, time left.
 *
 * @example
 * describeStatus({ step: 10, loss: 2, tokens: 4096 }, { tokensPerSecond: 4096, secondsLeft: 90 });
 * // 'loss 2.000 | 4.10k tok/s | 1m30s left'
 */
export function describeStatus(
  status: TrainingStatus,
  pace: { tokensPerSecond: number; secondsLeft: number },
): string {
  const parts = [`loss ${status.loss.toFixed(3)}`];
  if (status.bitsPerByte !== undefined) parts.push(`${status.bitsPerByte.toFixed(3)} bits/byte`);
  if (status.validationBitsPerByte !== undefined) {
    parts.push(`validation ${status.validationBitsPerByte.toFixed(3)}`);
  }
  parts.push(formatRate(pace.tokensPerSecond, 'tok'));
  parts.push(`${formatDuration(pace.secondsLeft)} left`);
  return parts.join(' | ');
}

/** Rates over the last seconds rather than since the start, so that they follow the present. */
class Pace {
  private readonly samples: { time: number; step: number; tokens: number }[] = [];

  constructor(
    private readonly now: () => number,
    startStep: number,
  ) {
    this.samples.push({ time: now(), step: startStep, tokens: 0 });
  }

  update(
    status: TrainingStatus,
    totalSteps: number,
  ): { tokensPerSecond: number; secondsLeft: number } {
    const time = this.now();
    const { samples } = this;
    while (samples.length > 2 && time - samples[1].time > 10_000) samples.shift();
    const oldest = samples[0];
    const last = samples[samples.length - 1];
    if (time - last.time >= 250 || samples.length === 1) {
      samples.push({ time, step: status.step, tokens: status.tokens });
    }
    const seconds = (time - oldest.time) / 1000;
    const steps = status.step - oldest.step;
    const tokensPerSecond = seconds > 0 ? (status.tokens - oldest.tokens) / seconds : Number.NaN;
    const left = Math.max(0, totalSteps - status.step);
    const secondsLeft = left === 0 ? 0 : steps > 0 ? (left * seconds) / steps : Number.NaN;
    return { tokensPerSecond, secondsLeft };
  }
}

function barProgress(
  options: TrainingProgressOptions,
  stream: NodeJS.WriteStream,
): TrainingProgress {
  // Loaded here, so that runs without a terminal do not need it.
  const { SingleBar: Bar } = require('cli-progress') as typeof import('cli-progress');
  const { totalSteps, startStep = 0, now = Date.now } = options;
  const pace = new Pace(now, startStep);
  const bar: SingleBar = new Bar({
    format: ' {bar} {percentage}% {value}/{total} | {status}',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 20,
    hideCursor: true,
    linewrap: false,
    stopOnComplete: false,
    gracefulExit: true,
    fps: 8,
    stream,
  });
  bar.start(totalSteps, startStep, { status: 'starting' });
  let running = true;
  return {
    update(status) {
      if (!running) return;
      bar.update(status.step, { status: describeStatus(status, pace.update(status, totalSteps)) });
    },
    note(line) {
      if (!running) {
        stream.write(`${line}\n`);
        return;
      }
      stream.write(`\r\x1b[K${line}\n`);
      bar.render();
    },
    stop() {
      if (!running) return;
      running = false;
      bar.stop();
    },
  };
}

function lineProgress(
  options: TrainingProgressOptions,
  stream: NodeJS.WriteStream,
): TrainingProgress {
  const { totalSteps, startStep = 0, lineSeconds = 10, now = Date.now } = options;
  const pace = new Pace(now, startStep);
  let lastLine = now();
  let pending: string | undefined;
  return {
    update(status) {
      const line = `step ${status.step}/${totalSteps} | ${describeStatus(status, pace.update(status, totalSteps))}\n`;
      if (now() - lastLine < lineSeconds * 1000 && status.step < totalSteps) {
        pending = line;
        return;
      }
      lastLine = now();
      pending = undefined;
      stream.write(line);
    },
    note(line) {
      stream.write(`${line}\n`);
    },
    stop() {
      if (pending) stream.write(pending);
      pending = undefined;
    },
  };
}

/**
 * Shows how a training run goes on: a bar on a terminal; where the stream is none, or `TERM` is
 * `dumb`, a plain line every few seconds and at the end.
 *
 * @example
 * const progress = trainingProgress({ totalSteps: 1000 });
 * progress.update({ step: 1, loss: 5.5, bitsPerByte: 7.9, tokens: 4096 });
 * progress.stop();
 */
export function trainingProgress(options: TrainingProgressOptions): TrainingProgress {
  const stream = options.stream ?? process.stderr;
  const terminal = stream.isTTY === true && process.env.TERM !== 'dumb';
  return terminal ? barProgress(options, stream) : lineProgress(options, stream);
}
