// Counters of a device's memory that other tests cannot change any more.
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Device, type MemoryInfo, setNumThreads } from 'longspan';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** Collections after which nothing may have changed. */
const QUIET = 3;

/**
 * What `device` holds once everything unreachable is freed. Test files share a process, so tensors
 * that an earlier test dropped might else be collected between two readings of a counter.
 */
export async function settledMemory(device: Device): Promise<MemoryInfo> {
  let memory = device.memory();
  for (let same = 0; same < QUIET; ) {
    collectGarbage();
    await sleep(5); // finalizers run in later turns
    await device.synchronize();
    const now = device.memory();
    same = now.active === memory.active ? same + 1 : 0;
    memory = now;
  }
  return memory;
}

/**
 * Bytes that `work` needs beyond what is held after `prepare`, with one thread: the least peak of
 * several runs. Calls that are queued ahead of the device have their outputs already, so that a peak
 * depends on timing, and each thread has scratch of its own.
 */
export async function leastPeak(
  device: Device,
  work: () => void,
  { runs = 7, prepare = () => {} } = {},
): Promise<number> {
  setNumThreads(1);
  try {
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < runs; ++i) {
      prepare();
      const { active } = await settledMemory(device);
      device.resetPeakMemory();
      work();
      await device.synchronize();
      least = Math.min(least, device.memory().peak - active);
    }
    return least;
  } finally {
    setNumThreads(Number.MAX_SAFE_INTEGER);
  }
}
