/**
 * How long work takes. The processor runs what is enqueued, by the wall clock. On a GPU the work is
 * recorded, several runs in a graph, and replayed between two of the stream's events: what counts is the
 * device's time; the wall clock beside it also has what the calls and the waiting cost. What cannot be recorded
 * has the wall clock alone.
 *
 * Work is warm: the same inputs every time, so what fits into a cache is in it. With a cold L2 a GPU
 * overwrites more memory than its L2 holds before every run, outside of the events.
 */
import { type Device, type Graph, zeros } from 'longspan';
import { startTimer } from '#lib/core/timer';
import type { Prepared } from './case.js';

/** Runs in a graph at most, and about how long one should last. */
const mostPerGraph = 32;
const secondsPerGraph = 2e-3;
/** Numbers written before a run, 256 MiB: the largest L2 of a GPU so far has 126 MB. */
const flushed = 1 << 26;

/** Seconds of one run. */
export interface Sample {
  seconds: number;
  /** By the wall clock, where `seconds` is a device's time. */
  wall?: number;
}

/** Work warmed up and ready for samples. */
export interface Timed {
  sample(): Promise<Sample>;
  dispose(): void;
}

/** What a sample is taken of. */
export interface TimingOptions {
  /** Seconds that a sample should last at least. */
  sampleSeconds: number;
  /** The L2 holds nothing of use when a run begins; on a GPU. */
  coldL2?: boolean;
  /** Tiny work: little is overwritten for it. */
  smoke?: boolean;
}

async function elapsed(device: Device, times: number, run: () => void): Promise<number> {
  await device.synchronize();
  const start = performance.now();
  for (let i = 0; i < times; i++) run();
  await device.synchronize();
  return (performance.now() - start) / 1e3 / times;
}

async function onGpu(device: Device, times: number, run: () => void): Promise<Sample> {
  await device.synchronize();
  const start = performance.now();
  const stop = startTimer(device);
  for (let i = 0; i < times; i++) run();
  const seconds = await stop();
  return { seconds: seconds / times, wall: (performance.now() - start) / 1e3 / times };
}

/** Each run between events of its own, after `flush`; all are enqueued before the first is awaited. */
async function afterFlush(
  device: Device,
  times: number,
  flush: () => void,
  run: () => void,
): Promise<Sample> {
  await device.synchronize();
  const runs: Promise<number>[] = [];
  for (let i = 0; i < times; i++) {
    flush();
    const stop = startTimer(device);
    run();
    runs.push(stop());
  }
  const seconds = await Promise.all(runs);
  return { seconds: seconds.reduce((a, b) => a + b) / times };
}

type Work = Pick<Prepared, 'run' | 'recordable' | 'sample'>;

export async function timed(work: Work, device: Device, options: TimingOptions): Promise<Timed> {
  const { run, recordable = true, sample } = work;
  const { sampleSeconds, coldL2 = false, smoke = false } = options;
  if (sample) {
    await sample.call(work);
    return {
      sample: async () => ({ seconds: await sample.call(work) }),
      dispose: () => undefined,
    };
  }
  await elapsed(device, 1, run);
  const once = await elapsed(device, 1, run);
  const gpu = device.type === 'cuda' && recordable;
  const cold = gpu && coldL2;
  let graph: Graph | null = null;
  let perRun = 1;
  if (gpu) {
    if (!cold) perRun = Math.max(1, Math.min(mostPerGraph, Math.ceil(secondsPerGraph / once)));
    graph = device.capture(() => {
      for (let i = 0; i < perRun; i++) run();
    });
  }
  const step = graph ? () => void graph.replay() : run;
  const repeats = Math.max(1, Math.ceil(sampleSeconds / (once * perRun)));
  let take: () => Promise<Sample>;
  if (cold) {
    const flush = () => zeros([smoke ? 1 << 10 : flushed], { device }).dispose();
    take = () => afterFlush(device, Math.min(repeats, 64), flush, step);
  } else if (gpu) {
    take = () => onGpu(device, repeats, step);
  } else {
    take = async () => ({ seconds: await elapsed(device, repeats, step) });
  }
  return {
    async sample() {
      const { seconds, wall } = await take();
      return { seconds: seconds / perRun, ...(wall !== undefined && { wall: wall / perRun }) };
    },
    dispose: () => graph?.dispose(),
  };
}
