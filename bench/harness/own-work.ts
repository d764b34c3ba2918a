/** Work of our own as a row's peer: how much faster is this than that? */
import type { Device } from 'longspan';
import type { Peer, Prepared } from './case.js';
import { type Timed, timed } from './timing.js';

/** @param name what the table calls it */
export function ownWork(name: string, device: Device, prepare: () => Prepared): Peer {
  let prepared: Prepared | null = null;
  let work: Timed | null = null;
  return {
    name,
    async sample() {
      prepared ??= prepare();
      work ??= await timed(prepared, device, { sampleSeconds: 0.05 });
      return (await work.sample()).seconds;
    },
    close() {
      work?.dispose();
      prepared?.dispose?.();
    },
  };
}
