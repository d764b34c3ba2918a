/**
 * Learning-rate schedules: pure functions of the step, which counts updates from 1. A run that
 * resumes at step n needs nothing but n.
 */

import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';

/** Learning rate at a step; the first update is step 1. */
export type Schedule = (step: number) => number;

function check(schedule: string, argument: string, value: number, least: number): void {
  if (Number.isFinite(value) && value >= least) return;
  throw new ArgumentError(
    'ERR_VALUE',
    schedule,
    argument,
    show(value),
    `Give a finite number of at least ${least}`,
  );
}

/** Options of `constantSchedule`. */
export interface ConstantOptions {
  rate: number;
}

/**
 * Always the same rate.
 *
 * @example
 * const rate = constantSchedule({ rate: 1e-3 });
 * rate(1000); // 1e-3
 */
export function constantSchedule(options: ConstantOptions): Schedule {
  checkOptions('constantSchedule', options, ['rate']);
  const { rate } = options;
  check('constantSchedule', 'rate', rate, 0);
  return () => rate;
}

/** Options of `noamSchedule`. */
export interface NoamOptions {
  /** Width of the model, d_model. */
  modelDim: number;
  /** Steps of linear increase; 4000 in the paper. */
  warmup: number;
  /** Factor on the whole; 1 by default. */
  factor?: number;
}

/**
 * The schedule of Vaswani et al. 2017, section 5.3:
 * factor * d_model^-1/2 * min(step^-1/2, step * warmup^-3/2). Step 0 counts as step 1.
 *
 * @example
 * const rate = noamSchedule({ modelDim: 512, warmup: 4000 });
 * rate(4000); // the highest, 6.99e-4
 */
export function noamSchedule(options: NoamOptions): Schedule {
  checkOptions('noamSchedule', options, ['modelDim', 'warmup', 'factor']);
  const { modelDim, warmup, factor = 1 } = options;
  check('noamSchedule', 'modelDim', modelDim, 1);
  check('noamSchedule', 'warmup', warmup, 1);
  check('noamSchedule', 'factor', factor, 0);
  return (step) => {
    const s = Math.max(step, 1);
    return factor * modelDim ** -0.5 * Math.min(s ** -0.5, s * warmup ** -1.5);
  };
}

/** Options of `warmupSchedule`. */
export interface WarmupOptions {
  /** Rate after the warm-up. */
  rate: number;
  /** Steps of linear increase: step s <= warmup has rate * s / warmup. */
  warmup: number;
}

/**
 * Linear increase over `warmup` steps, then constant.
 *
 * @example
 * const rate = warmupSchedule({ rate: 1e-3, warmup: 100 });
 * rate(50); // 5e-4
 */
export function warmupSchedule(options: WarmupOptions): Schedule {
  checkOptions('warmupSchedule', options, ['rate', 'warmup']);
  const { rate, warmup } = options;
  check('warmupSchedule', 'rate', rate, 0);
  check('warmupSchedule', 'warmup', warmup, 0);
  return (step) => (step < warmup ? (rate * Math.max(step, 1)) / warmup : rate);
}

/** Options of `cosineSchedule`. */
export interface CosineOptions {
  /** Highest rate, reached at the end of the warm-up. */
  rate: number;
  /** Steps of the whole run; from there on the rate is `floor`. */
  steps: number;
  /** Steps of linear increase; 0 by default. */
  warmup?: number;
  /** Lowest rate, at the end; 0 by default. */
  floor?: number;
}

/**
 * Linear warm-up, then half a cosine from `rate` down to `floor` (Loshchilov and Hutter 2017,
 * without restarts).
 *
 * @example
 * const rate = cosineSchedule({ rate: 1e-3, steps: 1000, warmup: 100, floor: 1e-4 });
 * rate(100); // 1e-3
 * rate(1000); // 1e-4
 */
export function cosineSchedule(options: CosineOptions): Schedule {
  checkOptions('cosineSchedule', options, ['rate', 'steps', 'warmup', 'floor']);
  const { rate, steps, warmup = 0, floor = 0 } = options;
  check('cosineSchedule', 'rate', rate, 0);
  check('cosineSchedule', 'warmup', warmup, 0);
  check('cosineSchedule', 'steps', steps, warmup + 1);
  check('cosineSchedule', 'floor', floor, 0);
  return (step) => {
    if (step < warmup) return (rate * Math.max(step, 1)) / warmup;
    const progress = Math.min(1, (step - warmup) / (steps - warmup));
    return floor + (rate - floor) * 0.5 * (1 + Math.cos(Math.PI * progress));
  };
}
