import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../root.js';

export const program = join(root, 'dist/cli/main.js');

/** Runs the command line to its end. */
export function longspan(
  args: readonly string[],
  options: SpawnSyncOptions = {},
): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    ...options,
    env: { ...process.env, LONGSPAN_DEBUG: '', ...options.env },
  });
  return { code: status, out: String(stdout), err: String(stderr) };
}
