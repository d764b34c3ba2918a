/** What a benchmark is made of. */
import type { CurveOptions, Device, Tensor } from 'longspan';
import type { BenchRow } from './result.js';

/** Where benchmarks run, and at what size. */
export interface BenchContext {
  readonly device: Device;
  /** Tiny shapes: they show that everything runs, not how fast. */
  readonly smoke: boolean;
}

/** Work ready to be timed. */
export interface Prepared {
  /** Enqueues the work once; must not wait. */
  run(): void;
  /**
   * Whether a GPU may record run() and replay it, which leaves out what calls cost. Default true; false
   * for work that decides something on the host.
   */
  recordable?: boolean;
  /**
   * The same, for the results' owner to dispose: with it the row says how much device memory a run holds
   * at most, results included. What run() disposes is freed as soon as the device has no more use for it.
   */
  keep?(): Tensor[];
  /** Share of what matters that work which looks at a part alone finds; measured once, untimed. */
  recall?(): number;
  /** Seconds of one run, for work whose time is not that of run() and finish() together. */
  sample?(): Promise<number>;
  dispose?(): void;
}

/** Another library doing the same, timed in the same rounds. */
export interface Peer {
  name: string;
  /** Seconds of one execution, or null when the peer is not there. */
  sample(): Promise<number | null>;
  close?(): void;
}

/** One row of the table. */
export interface BenchCase {
  /** Operator, for example `matmul`. */
  operator: string;
  /** Shape and options as a person would write them; with `operator` and `threads` it is the row's key. */
  shape: string;
  /** Threads to compute with; default all. */
  threads?: number;
  /** Arithmetic of one run, counted from shapes. */
  flops?: number;
  /** Bytes one run must move. */
  bytes?: number;
  /** Tokens of one run. */
  tokens?: number;
  /** What its products are computed in, which decides a GPU's ceiling. Default f32. */
  dtype?: 'f32' | 'bf16' | 'f16';
  prepare(): Prepared;
  peer?: Peer;
}

export interface BenchGroup {
  /** File name without extension; what `npm run bench -- NAME` selects by. */
  name: string;
  cases(context: BenchContext): BenchCase[] | Promise<BenchCase[]>;
  /** Pictures of the group's rows, written beside the results, by name. */
  pictures?(rows: readonly BenchRow[], context: BenchContext): Record<string, CurveOptions>;
  /** Numbers that follow from the group's rows together, kept with them. */
  figures?(rows: readonly BenchRow[]): Record<string, number>;
}

export function defineBench(group: BenchGroup): BenchGroup {
  return group;
}
