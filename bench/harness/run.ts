/**
 * Times cases in interleaved rounds: every round measures the ceilings, then each case once, then its
 * peer, so that a slow minute of the machine falls on all of them alike. Rates are compared with the
 * ceiling of their own round.
 */
import { cpus, totalmem } from 'node:os';
import { type Device, setNumThreads } from 'longspan';
import { addon } from '#lib/native';
import type { BenchCase, BenchContext, Prepared } from './case.js';
import { type Ceilings, ceilingsOf } from './ceilings.js';
import { gpuName, isEmulated } from './machine.js';
import type { BenchFile, BenchRow } from './result.js';
import { median, quantile } from './statistics.js';
import { type Timed, timed } from './timing.js';

export interface RunOptions {
  rounds: number;
  /** Seconds one sample should last at least. */
  sampleSeconds: number;
  /** On a GPU, cases that are bound by memory begin with nothing of use in the L2. */
  coldL2?: boolean;
  /** What a row becomes before it is kept. */
  finish?(row: BenchRow): BenchRow;
  onRow?(row: BenchRow): void;
}

interface Running {
  spec: BenchCase;
  threads: number;
  work: Timed;
  peakBytes?: number;
  recall?: number;
  samples: number[];
  walls: number[];
  fractions: number[];
  peerSamples: number[];
  ratios: number[];
}

export async function runCases(
  cases: readonly BenchCase[],
  context: BenchContext,
  options: RunOptions,
): Promise<BenchFile> {
  const info = addon.info();
  const { device } = context;
  const onGpu = device.type === 'cuda';
  const file: BenchFile = {
    version: 1,
    date: new Date().toISOString(),
    machine: {
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      threads: info.threads,
      cpuLevel: info.cpuLevel,
      node: process.version,
      platform: `${process.platform}-${process.arch}`,
      memoryGB: Math.round(totalmem() / 2 ** 30),
      ...(onGpu && { gpu: gpuName(device.index) }),
    },
    device: onGpu && isEmulated() ? 'emulated' : device.name,
    timing: onGpu ? 'events around replays of a graph; whole loops: wall clock' : 'wall clock',
    rounds: options.rounds,
    ceilings: {},
    rows: [],
  };
  const ceilings = ceilingsOf(context);
  const measured = new Map<number, Record<string, number[]>>();

  for (const spec of cases) {
    const threads = onGpu ? 0 : setNumThreads(spec.threads ?? info.threads);
    const prepared = spec.prepare();
    const peakBytes = await peakOf(prepared, device);
    const recall = prepared.recall?.();
    const coldL2 = onGpu && options.coldL2 === true && isCold(spec, prepared);
    const work = await timed(prepared, device, {
      sampleSeconds: options.sampleSeconds,
      coldL2,
      smoke: context.smoke,
    });
    const running: Running = {
      spec: coldL2 ? { ...spec, shape: `${spec.shape}, cold L2` } : spec,
      ...{ threads, work },
      ...(peakBytes !== undefined && { peakBytes }),
      ...(recall !== undefined && { recall }),
      ...{ samples: [], walls: [], fractions: [], peerSamples: [], ratios: [] },
    };
    for (let round = 0; round < options.rounds; round++) await sample(running, ceilings, measured);
    work.dispose();
    prepared.dispose?.();
    spec.peer?.close?.();
    const plain = rowOf(running, ceilings);
    const row = options.finish?.(plain) ?? plain;
    file.rows.push(row);
    options.onRow?.(row);
  }
  ceilings.dispose();
  setNumThreads(info.threads);
  for (const [threads, rates] of measured) {
    file.ceilings[String(threads)] = Object.fromEntries(
      Object.entries(rates).map(([name, values]) => [name, median(values)]),
    );
  }
  return file;
}

async function sample(
  running: Running,
  ceilings: Ceilings,
  measured: Map<number, Record<string, number[]>>,
): Promise<void> {
  const { spec, threads } = running;
  if (threads > 0) setNumThreads(threads);
  const rates = await ceilings.measure(threads);
  const known = measured.get(threads) ?? {};
  measured.set(threads, known);
  for (const [name, rate] of Object.entries(rates)) {
    known[name] = [...(known[name] ?? []), rate];
  }
  const { seconds, wall } = await running.work.sample();
  running.samples.push(seconds);
  if (wall !== undefined) running.walls.push(wall);
  const ceiling = ceilingOf(spec, ceilings);
  if (ceiling) {
    const amount = (spec.flops ?? spec.bytes) as number;
    running.fractions.push(amount / seconds / (rates[ceiling] as number));
  }
  const peer = await spec.peer?.sample();
  if (peer) {
    running.peerSamples.push(peer);
    running.ratios.push(peer / seconds);
  }
}

/** What a run holds at most, results and scratch memory, beside its operands. */
async function peakOf(prepared: Prepared, device: Device): Promise<number | undefined> {
  if (!prepared.keep) return undefined;
  await device.synchronize();
  device.resetPeakMemory();
  const before = device.memory().active;
  const results = prepared.keep();
  await device.synchronize();
  for (const t of results) t.dispose();
  return device.memory().peak - before;
}

/** Whether the case is one whose bytes decide, and one that is timed by events. */
function isCold(spec: BenchCase, { sample, recordable = true }: Prepared): boolean {
  return spec.bytes !== undefined && spec.flops === undefined && !sample && recordable;
}

function ceilingOf(spec: BenchCase, ceilings: Ceilings): string | null {
  if (spec.flops) return ceilings.arithmetic(spec);
  return spec.bytes ? 'copy' : null;
}

function rowOf(running: Running, ceilings: Ceilings): BenchRow {
  const { spec, threads, peakBytes, recall, samples, fractions, peerSamples, ratios } = running;
  const seconds = median(samples);
  const ceiling = ceilingOf(spec, ceilings);
  return {
    operator: spec.operator,
    shape: spec.shape,
    threads,
    seconds,
    quartiles: [quantile(samples, 0.25), quantile(samples, 0.75)],
    ...(running.walls.length > 0 ? { wallSeconds: median(running.walls) } : {}),
    ...(spec.flops ? { flopsPerSecond: spec.flops / seconds } : {}),
    ...(spec.bytes ? { bytesPerSecond: spec.bytes / seconds } : {}),
    ...(peakBytes === undefined ? {} : { peakBytes }),
    ...(recall === undefined ? {} : { recall }),
    ...(spec.tokens ? { tokensPerSecond: spec.tokens / seconds } : {}),
    ...(ceiling ? { fractionOfCeiling: median(fractions), ceiling } : {}),
    ...(spec.peer && ratios.length > 0
      ? {
          peer: {
            name: spec.peer.name,
            seconds: median(peerSamples),
            ratio: median(ratios),
            quartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)] as [number, number],
          },
        }
      : {}),
    samples,
  };
}
