/** The JSON a run writes. Everything derived can be computed again from the samples. */

export interface BenchRow {
  operator: string;
  shape: string;
  /** Of the CPU; 0 on a GPU. */
  threads: number;
  /** Median seconds of one run; the device's own, by events, where there is `wallSeconds`. */
  seconds: number;
  /** Quartiles of the same. */
  quartiles: [number, number];
  /** By the wall clock: with what the calls cost where they are slower than the device. */
  wallSeconds?: number;
  /** Achieved FLOP/s and bytes/s, where counted. */
  flopsPerSecond?: number;
  bytesPerSecond?: number;
  tokensPerSecond?: number;
  /** Device memory that one run held at most, beside what lived before it. */
  peakBytes?: number;
  /** Share found by work that looks at a part alone. */
  recall?: number;
  /** Median over rounds of the achieved rate over the ceiling measured in the same round. */
  fractionOfCeiling?: number;
  /** Its name in the file's `ceilings`. */
  ceiling?: string;
  peer?: { name: string; seconds: number; ratio: number; quartiles: [number, number] };
  /** All peers of a row that has several, fastest first. */
  peers?: NonNullable<BenchRow['peer']>[];
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
    /** Name of the GPU, where the benchmarks ran on one. */
    gpu?: string;
  };
  /** `cpu`, `cuda:N`, or `emulated`, whose times say nothing about a GPU. */
  device: string;
  /** What the times are those of. */
  timing?: string;
  rounds: number;
  /** Medians of the ceilings (`ceilings.ts`), by number of threads. */
  ceilings: Record<string, Record<string, number>>;
  rows: BenchRow[];
  /** What follows from several rows together, such as exponents of growth, by name. */
  figures?: Record<string, number>;
}

/** What identifies a row in another file. */
export function keyOf(row: Pick<BenchRow, 'operator' | 'shape' | 'threads'>): string {
  return `${row.operator} | ${row.shape} | ${row.threads === 0 ? 'gpu' : `${row.threads} thr`}`;
}

/**
 * The rows of `later`, and those of `earlier` that it does not have.
 * @throws Error when they come from different machines
 */
export function merge(earlier: BenchFile, later: BenchFile): BenchFile {
  const machine = ({ device, machine: m }: BenchFile) =>
    [m.cpu, m.threads, m.cpuLevel, device, ...(m.gpu ? [m.gpu] : [])].join(', ');
  if (machine(earlier) !== machine(later))
    throw new Error(`results of ${machine(earlier)} cannot go with ${machine(later)}`);
  const measured = new Set(later.rows.map(keyOf));
  return {
    ...later,
    ceilings: { ...earlier.ceilings, ...later.ceilings },
    ...(earlier.figures && { figures: { ...earlier.figures, ...later.figures } }),
    rows: [...earlier.rows.filter((row) => !measured.has(keyOf(row))), ...later.rows],
  };
}
