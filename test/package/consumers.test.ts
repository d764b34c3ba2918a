import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { root as packageRoot } from '../root.js';

const compiled = (file: string) => path.join(packageRoot, '.test-build', 'consumers', file);
const node = (...args: string[]) =>
  execFileSync(process.execPath, args, { cwd: packageRoot, encoding: 'utf8' });

describe('a TypeScript consumer', () => {
  test('compiles as ESM and as CommonJS against the built package', () => {
    const tsc = path.join(packageRoot, 'node_modules', 'typescript', 'bin', 'tsc');
    expect(node(tsc, '-p', path.join(packageRoot, 'test', 'package', 'consumers'))).toBe('');
  });

  test('runs as ESM with named imports', () => {
    expect(node(compiled('esm.mjs'))).toBe('esm ERR_VALUE\n');
  });

  test('runs as CommonJS and shares its classes with ESM', () => {
    expect(node(compiled('cjs.cjs'))).toBe('cjs ERR_VALUE\n');
  });
});
