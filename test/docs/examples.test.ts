/** Every @example in lib/ and every ts block of the README compiles and runs. */
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import * as longspan from 'longspan';
import { root } from '../root.js';
import { temporaryDirectory } from '../temporary.js';

const examples = path.join(root, '.test-build/examples');

describe('examples', () => {
  const scratch = temporaryDirectory();

  function run(script: string, ...options: string[]) {
    const command = [path.join(root, script), ...options];
    const result = spawnSync(process.execPath, command, { cwd: scratch(), encoding: 'utf8' });
    return { status: result.status, output: result.stdout + result.stderr };
  }

  test('compile and run', () => {
    cpSync(path.join(root, 'docs'), scratch('docs'), { recursive: true }); // text to train on
    expect(run('scripts/doc-examples.mjs', examples).output).toMatch(/^\d\d+ examples/);
    const passed = { status: 0, output: '' };
    expect(run('node_modules/typescript/bin/tsc', '-p', examples)).toEqual(passed);
    expect(run('.test-build/examples/run.mjs')).toEqual(passed);
  }, 300_000);
});

test('every exported function has one', () => {
  const documented = new Set<string>();
  const files = readdirSync(path.join(root, 'lib'), { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.ts'))) {
    const source = readFileSync(path.join(root, 'lib', file), 'utf8');
    const declarations = source.matchAll(
      /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*export (?:async )?(?:function\*?|const) ([\w$]+)/g,
    );
    for (const [, comment, name] of declarations) {
      if (/\* @example$/m.test(comment)) documented.add(name);
    }
  }
  const isClass = (value: unknown): boolean => /^class\b/.test(String(value));
  const functions = Object.entries(longspan)
    .filter(([, value]) => typeof value === 'function' && !isClass(value))
    .map(([name]) => name);
  expect(functions.length).toBeGreaterThan(50);
  expect(functions.filter((name) => !documented.has(name))).toEqual([]);
});
