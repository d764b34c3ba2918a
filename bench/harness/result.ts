/** The JSON a run writes. Everything derived can be computed again from the samples. */

export interface BenchRow {
  operator: string;
  shape: string;
  threads: number;
  /** Median seconds of one run. */
  seconds: number;
  /** Quartiles of the same. */
  quartiles: [number, number];
  /** Achieved FLOP/s and bytes/s, where counted. */
  flopsPerSecond?: number;
  bytesPerSecond?: number;
  /** Median over rounds of the achieved rate over the ceiling measured in the same round. */
  fractionOfCeiling?: number;
  ceiling?: 'fma' | 'copy';
  peer?: { name: string; seconds: number; ratio: number; quartiles: [number, number] };
  /** Seconds per run of each round, in order. */
  samples: number[];
}

export interface BenchFile {
  version: 1;
  /** ISO time of the run's start. */
  date: string;
  machine: {
    cpu: string;
    threads: number;
    cpuLevel: string;
    node: string;
    platform: string;
    memoryGB: number;
  };
  device: string;
  rounds: number;
  /** Medians of the ceilings, FLOP/s of independent fused multiply-adds and bytes/s of a copy. */
  ceilings: Record<string, { fma: number; copy: number }>;
  rows: BenchRow[];
}

/** What identifies a row in another file. */
export function keyOf(row: Pick<BenchRow, 'operator' | 'shape' | 'threads'>): string {
  return `${row.operator} | ${row.shape} | ${row.threads} thr`;
}

/**
 * The rows of `later`, and those of `earlier` that it does not have.
 * @throws Error when they come from different machines
 */
export function merge(earlier: BenchFile, later: BenchFile): BenchFile {
  const machine = ({ cpu, threads, cpuLevel }: BenchFile['machine']) =>
    [cpu, threads, cpuLevel].join(', ');
  if (machine(earlier.machine) !== machine(later.machine)) {
    throw new Error(
      `results of ${machine(earlier.machine)} cannot go with ${machine(later.machine)}`,
    );
  }
  const measured = new Set(later.rows.map(keyOf));
  return {
    ...later,
    ceilings: { ...earlier.ceilings, ...later.ceilings },
    rows: [...earlier.rows.filter((row) => !measured.has(keyOf(row))), ...later.rows],
  };
}
