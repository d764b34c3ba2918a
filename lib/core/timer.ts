/** Time on a device's own clock, for benchmarks. */
import { addon, settled, throwLast } from '../native.js';
import type { Device } from './device.js';

/**
 * Takes the moment at which everything enqueued so far on the current stream of `device` has run. The
 * function it returns does the same and resolves to the seconds between: what the device took for the
 * work in between, by a GPU's events, without the calls that enqueued it.
 *
 * @throws ArgumentError inside `device.capture`
 * @example
 * import { startTimer } from '#lib/core/timer';
 * const stop = startTimer(device('cpu'));
 * const y = matmul(ones([64, 64]), ones([64, 64]));
 * console.log(`${((await stop()) * 1e6).toFixed(0)} us`);
 */
export function startTimer(device: Device): () => Promise<number> {
  const stream = device.stream.id;
  const timer = addon.startTimer(stream) ?? throwLast('startTimer');
  return async () => {
    const seconds = new Float64Array(1);
    await settled('stopTimer', (id) => addon.stopTimer(timer, stream, seconds.buffer, id));
    return seconds[0] as number;
  };
}
