/** The machine's ceilings, measured, for benchmarks to be held against. */
import { addon } from '../native.js';
import { show } from './declare.js';
import { ArgumentError } from './errors.js';
import { checkOptions } from './options.js';

export interface PeakOptions {
  /** Threads that work at once. Default: all of the pool. */
  threads?: number;
  /** Seconds each of the two measurements takes, about. Default 0.1. */
  seconds?: number;
}

export interface Peak {
  /** f32 FLOP/s of independent fused multiply-adds in registers, each counted as two. */
  fma: number;
  /** Bytes/s of a copy from memory to memory, bytes read plus bytes written; 0 without memory for it. */
  copy: number;
}

/**
 * Measures what the CPU can do at most, at the instruction-set level in use. Blocks this thread; nothing
 * else should run on the device meanwhile.
 *
 * @throws ArgumentError when `threads` is not a whole number from 1 to the size of the pool, or `seconds`
 * does not lie in (0, 60]
 * @example
 * import { measurePeak } from '#lib/core/peak';
 * const { fma } = measurePeak({ threads: 1, seconds: 0.01 });
 * console.log(`${(fma / 1e9).toFixed(0)} GFLOP/s`);
 */
export function measurePeak(options: PeakOptions = {}): Peak {
  checkOptions('measurePeak', options, ['threads', 'seconds']);
  const most = addon.info().threads;
  const { threads = most, seconds = 0.1 } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > most) {
    throw new ArgumentError(
      'ERR_VALUE',
      'measurePeak',
      'threads',
      show(threads),
      `Use a whole number from 1 to ${most}`,
    );
  }
  if (typeof seconds !== 'number' || !(seconds > 0 && seconds <= 60)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'measurePeak',
      'seconds',
      show(seconds),
      'Use a positive number up to 60',
    );
  }
  const [fma, copy] = addon.peak(threads, seconds);
  return { fma, copy };
}
