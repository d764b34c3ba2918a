/** What the machine offers to longspan, as data. */

import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, freemem, release, totalmem } from 'node:os';
import { join } from 'node:path';

/** The native addon, or why there is none. */
export interface AddonState {
  readonly loaded: boolean;
  /** The file that was loaded. */
  readonly file?: string;
  /** Instruction-set level the kernels run at: portable, v3 (AVX2) or v4 (AVX-512). */
  readonly cpuLevel?: string;
  /** Threads it computes with. */
  readonly threads?: number;
  /** Number of native operators. */
  readonly operators?: number;
  /** Why it could not be loaded, with the cure. */
  readonly error?: string;
}

/** State of a GPU backend. */
export interface CudaState {
  readonly usable: boolean;
  /** What is missing. */
  readonly missing?: string;
  /** Of a usable GPU: whether cuBLASLt was found and what it computes. */
  readonly cublasLt?: string;
}

/** What `longspan doctor --json` prints. */
export interface DoctorReport {
  readonly longspan: string;
  readonly node: string;
  readonly nodeApi: string;
  readonly v8: string;
  readonly platform: string;
  readonly kernel: string;
  /** Version of glibc; null with another C library. */
  readonly glibc: string | null;
  readonly cpu: {
    readonly model: string;
    /** Processors of the machine, and those this process may use. */
    readonly logical: number;
    readonly usable: number;
  };
  /** Bytes. `limit` is that of a container, null where there is none. */
  readonly memory: { readonly total: number; readonly free: number; readonly limit: number | null };
  readonly addon: AddonState;
  readonly cuda: CudaState;
  /** Settings that are in force: environment variables whose names begin with LONGSPAN_. */
  readonly environment: Readonly<Record<string, string>>;
}

async function addonState(): Promise<{ addon: AddonState; cuda: CudaState }> {
  try {
    const { default: nodeGypBuild } = await import('node-gyp-build');
    const { addon } = await import('../../native.js');
    const { device } = await import('../../core/device.js');
    const { threads, cpuLevel } = addon.info();
    let cuda: CudaState;
    try {
      device('cuda');
      cuda = { usable: true, cublasLt: addon.cublasLt() };
    } catch (error) {
      cuda = { usable: false, missing: (error as Error).message };
    }
    const file = nodeGypBuild.resolve(join(__dirname, '..', '..', '..'));
    const operators = addon.describe().length;
    return { addon: { loaded: true, file, cpuLevel, threads, operators }, cuda };
  } catch (error) {
    const { message } = error as Error;
    return {
      addon: { loaded: false, error: message },
      cuda: { usable: false, missing: 'the native addon is not loaded' },
    };
  }
}

/** Memory limit of the control group, version 2 or 1. */
function containerLimit(total: number): number | null {
  const files = ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes'];
  for (const file of files) {
    try {
      const limit = Number(readFileSync(file, 'utf8'));
      if (limit > 0 && limit < total) return limit;
    } catch {
      // Not this version, or not Linux.
    }
  }
  return null;
}

function settings(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env)
      .filter((pair): pair is [string, string] => pair[0].startsWith('LONGSPAN_'))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** Looks at the machine, the runtime and the addon. Never throws. */
export async function examine(): Promise<DoctorReport> {
  const header = (
    process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  ).header;
  const manifest = readFileSync(join(__dirname, '..', '..', '..', 'package.json'), 'utf8');
  const processors = cpus();
  const total = totalmem();
  return {
    longspan: (JSON.parse(manifest) as { version: string }).version,
    node: process.versions.node,
    nodeApi: process.versions.napi ?? '',
    v8: process.versions.v8,
    platform: `${process.platform}-${process.arch}`,
    kernel: release(),
    glibc: header.glibcVersionRuntime ?? null,
    cpu: {
      model: processors[0]?.model.trim() || 'unknown',
      logical: processors.length,
      usable: availableParallelism(),
    },
    memory: { total, free: freemem(), limit: containerLimit(total) },
    ...(await addonState()),
    environment: settings(),
  };
}
