/**
 * How long work takes. The processor runs what is enqueued; on a GPU the work is recorded, several runs
 * in a graph, and replayed: what is timed then is the device, not the calls that launch. Both are warm: the
 * same inputs every time, so what fits into a cache is in it.
 */
import type { Device, Graph } from 'longspan';
import type { Prepared } from './case.js';

/** Runs in a graph at most, and about how long one should last. */
const mostPerGraph = 32;
const secondsPerGraph = 2e-3;

/** Work warmed up and ready for samples. */
export interface Timed {
  /** Seconds of one run. */
  sample(): Promise<number>;
  dispose(): void;
}

async function elapsed(device: Device, times: number, run: () => void): Promise<number> {
  await device.synchronize();
  const start = performance.now();
  for (let i = 0; i < times; i++) run();
  await device.synchronize();
  return (performance.now() - start) / 1e3 / times;
}

type Work = Pick<Prepared, 'run' | 'recordable' | 'sample'>;

/** @param sampleSeconds what a sample should last at least */
export async function timed(work: Work, device: Device, sampleSeconds: number): Promise<Timed> {
  const { run, recordable = true, sample } = work;
  if (sample) {
    await sample.call(work);
    return { sample: () => sample.call(work), dispose: () => undefined };
  }
  await elapsed(device, 1, run);
  const once = await elapsed(device, 1, run);
  let graph: Graph | null = null;
  let perRun = 1;
  if (device.type === 'cuda' && recordable) {
    perRun = Math.max(1, Math.min(mostPerGraph, Math.ceil(secondsPerGraph / once)));
    graph = device.capture(() => {
      for (let i = 0; i < perRun; i++) run();
    });
  }
  const step = graph ? () => void graph.replay() : run;
  const repeats = Math.max(1, Math.ceil(sampleSeconds / (once * perRun)));
  return {
    sample: async () => (await elapsed(device, repeats, step)) / perRun,
    dispose: () => graph?.dispose(),
  };
}
