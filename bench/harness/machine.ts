/** What the benchmarks ran on. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';

/** The GPU's name as its driver tells it. */
export function gpuName(index: number): string {
  if (isEmulated()) return 'none: the emulator';
  const query = ['--query-gpu=name', '--format=csv,noheader', `--id=${index}`];
  const { status, stdout } = spawnSync('nvidia-smi', query, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : 'unknown: nvidia-smi does not tell';
}

/** Whether the addon's GPUs are the emulator's; it lies in a folder of its own. */
export function isEmulated(): boolean {
  return path.basename(process.env.LONGSPAN_PREBUILD ?? '') === 'emulated';
}
