// Counters of a device's memory that other tests cannot change any more.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Device, MemoryInfo } from 'longspan';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/**
 * What `device` holds once everything unreachable is freed. Test files share a process, so tensors
 * that an earlier test dropped might else be collected between two readings of a counter.
 */
export async function settledMemory(device: Device): Promise<MemoryInfo> {
  for (let last = Number.POSITIVE_INFINITY; ; ) {
    collectGarbage();
    await nextTurn(); // finalizers run in a later turn
    await nextTurn();
    await device.synchronize();
    const memory = device.memory();
    if (memory.active >= last) return memory;
    last = memory.active;
  }
}
