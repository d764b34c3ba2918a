/**
 * Times cases in interleaved rounds: every round measures the ceilings, then each case once, then its
 * peer, so that a slow minute of the machine falls on all of them alike. Rates are compared with the
 * ceiling of their own round.
 */
import { cpus, totalmem } from 'node:os';
import { setNumThreads } from 'longspan';
import { measurePeak } from '#lib/core/peak';
import { addon } from '#lib/native';
import type { BenchCase, Prepared } from './case.js';
import type { BenchFile, BenchRow } from './result.js';
import { median, quantile } from './statistics.js';

export interface RunOptions {
  rounds: number;
  /** Seconds one sample should last at least. */
  sampleSeconds: number;
  onRow?(row: BenchRow): void;
}

interface Running {
  spec: BenchCase;
  threads: number;
  prepared: Prepared;
  repeats: number;
  samples: number[];
  fractions: number[];
  peerSamples: number[];
  ratios: number[];
}

async function time(prepared: Prepared, repeats: number): Promise<number> {
  if (prepared.sample) return prepared.sample();
  const start = performance.now();
  for (let i = 0; i < repeats; i++) prepared.run();
  await prepared.finish();
  return (performance.now() - start) / 1e3 / repeats;
}

export async function runCases(
  cases: readonly BenchCase[],
  options: RunOptions,
): Promise<BenchFile> {
  const info = addon.info();
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
    },
    device: 'cpu',
    rounds: options.rounds,
    ceilings: {},
    rows: [],
  };
  const ceilings = new Map<number, { fma: number[]; copy: number[] }>();

  for (const spec of cases) {
    const threads = setNumThreads(spec.threads ?? info.threads);
    const prepared = spec.prepare();
    await time(prepared, 1);
    const once = await time(prepared, 1);
    const running: Running = {
      spec,
      threads,
      prepared,
      repeats: Math.max(1, Math.ceil(options.sampleSeconds / once)),
      samples: [],
      fractions: [],
      peerSamples: [],
      ratios: [],
    };
    for (let round = 0; round < options.rounds; round++) {
      await sample(running, ceilings);
    }
    prepared.dispose?.();
    spec.peer?.close?.();
    const row = rowOf(running);
    file.rows.push(row);
    options.onRow?.(row);
  }
  setNumThreads(info.threads);
  for (const [threads, { fma, copy }] of ceilings) {
    file.ceilings[String(threads)] = { fma: median(fma), copy: median(copy) };
  }
  return file;
}

async function sample(
  running: Running,
  ceilings: Map<number, { fma: number[]; copy: number[] }>,
): Promise<void> {
  const { spec, threads } = running;
  setNumThreads(threads);
  const peak = measurePeak({ threads, seconds: 0.02 });
  const known = ceilings.get(threads) ?? { fma: [], copy: [] };
  ceilings.set(threads, known);
  known.fma.push(peak.fma);
  known.copy.push(peak.copy);
  const seconds = await time(running.prepared, running.repeats);
  running.samples.push(seconds);
  if (spec.flops) running.fractions.push(spec.flops / seconds / peak.fma);
  else if (spec.bytes) running.fractions.push(spec.bytes / seconds / peak.copy);
  const peer = await spec.peer?.sample();
  if (peer) {
    running.peerSamples.push(peer);
    running.ratios.push(peer / seconds);
  }
}

function rowOf({ spec, threads, samples, fractions, peerSamples, ratios }: Running): BenchRow {
  const seconds = median(samples);
  return {
    operator: spec.operator,
    shape: spec.shape,
    threads,
    seconds,
    quartiles: [quantile(samples, 0.25), quantile(samples, 0.75)],
    ...(spec.flops ? { flopsPerSecond: spec.flops / seconds } : {}),
    ...(spec.bytes ? { bytesPerSecond: spec.bytes / seconds } : {}),
    ...(fractions.length > 0
      ? {
          fractionOfCeiling: median(fractions),
          ceiling: spec.flops ? ('fma' as const) : ('copy' as const),
        }
      : {}),
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
