import { resolve } from 'node:path';

/** The repository root; tests run from `.test-build/test`. */
export const root = resolve(__dirname, '../..');

/**
 * Loads a module that the package does not export, by its path under `lib`. Its type is that of
 * the built module: `internal<typeof import('../dist/cli/progress.js')>('cli/progress.js')`.
 */
export function internal<T>(path: string): T {
  return require(resolve(root, 'dist', path)) as T;
}
