import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../root.js';

/** The TypeScript of README.md, compiled against the built package and run. */
const folder = join(root, '.test-build', 'readme');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);

const node = (args: string[], cwd: string): string =>
  execFileSync(process.execPath, args, { cwd, encoding: 'utf8' });

describe('README.md', () => {
  beforeAll(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(join(folder, 'docs'), { recursive: true });
    blocks.forEach((code, i) => {
      writeFileSync(join(folder, `example-${i}.mts`), code);
    });
    for (const name of ['a', 'b', 'c'])
      writeFileSync(
        join(folder, `docs/${name}.md`),
        `# ${name}\n\nSome words on ${name}.\n`.repeat(30),
      );
    const files = blocks.map((_, i) => `example-${i}.mts`);
    const compilerOptions = {
      target: 'es2022',
      module: 'nodenext',
      types: ['node'],
      strict: true,
      rootDir: '.',
      outDir: '.',
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  });

  test('has examples, and they compile', () => {
    expect(blocks.length).toBeGreaterThan(1);
    expect(node([join(root, 'node_modules/typescript/bin/tsc'), '-p', folder], root)).toBe('');
  });

  test.each(blocks.map((code, i) => [i, code]))('example %i runs', (i) => {
    node([join(folder, `example-${i}.mjs`)], folder);
  });
});
