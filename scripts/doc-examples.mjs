// Turns every @example of lib/ and every ts block of README.md into a module of its own under the
// given directory, so that a test can compile and run them. Names exported by the package are
// imported for the example; whatever else it uses it must define.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const target = path.resolve(process.argv[2] ?? path.join(root, '.test-build/examples'));
const exported = Object.keys(createRequire(import.meta.url)(root));

/** @param {string} code */
function withImports(code) {
  if (/^import .* from 'longspan';/m.test(code)) return code;
  const words = new Set(code.match(/[A-Za-z_$][\w$]*/g) ?? []);
  const declared = new Set(
    [...code.matchAll(/(?:const|let|var|function|class)\s+([A-Za-z_$][\w$]*)/g)].map((m) => m[1]),
  );
  for (const [, names] of code.matchAll(/(?:const|let)\s*[{[]([^}\]=]*)[}\]]\s*=/g)) {
    for (const name of names.match(/[A-Za-z_$][\w$]*/g) ?? []) declared.add(name);
  }
  const names = exported.filter((name) => words.has(name) && !declared.has(name));
  return `import { ${names.join(', ')} } from 'longspan';\n${code}`;
}

/** @param {string} source */
function* examplesOf(source) {
  for (const [comment] of source.matchAll(/\/\*\*[\s\S]*?\*\//g)) {
    const lines = comment
      .split('\n')
      .map((line) => line.replace(/^\s*(\/\*\*|\*\/|\*) ?/, '').replace(/\s*\*\/$/, ''));
    let example = null;
    for (const line of [...lines, '@end']) {
      if (line.startsWith('@')) {
        if (example !== null && example.trim() !== '') yield example;
        example = line.startsWith('@example') ? '' : null;
      } else if (example !== null) {
        example += `${line}\n`;
      }
    }
  }
}

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
let count = 0;
const write = (name, code) => {
  // An export makes it a module even without imports, so that top-level await is allowed.
  writeFileSync(path.join(target, `${name}.mts`), `${withImports(code)}\nexport {};\n`);
  count++;
};
const files = readdirSync(path.join(root, 'lib'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts') && !file.startsWith('cli'))
  .sort();
for (const file of files) {
  let n = 0;
  for (const code of examplesOf(readFileSync(path.join(root, 'lib', file), 'utf8'))) {
    write(`${file.replace(/\.ts$/, '').replaceAll('/', '.')}-${++n}`, code);
  }
}
let block = 0;
for (const [, code] of readFileSync(path.join(root, 'README.md'), 'utf8').matchAll(
  /```ts\n([\s\S]*?)```/g,
)) {
  write(`README-${++block}`, code);
}
writeFileSync(
  path.join(target, 'tsconfig.json'),
  `${JSON.stringify({
    compilerOptions: {
      target: 'es2023',
      lib: ['es2023', 'esnext.disposable'],
      module: 'nodenext',
      types: ['node'],
      typeRoots: [path.join(root, 'node_modules/@types')],
      strict: true,
      outDir: 'out',
      rootDir: '.',
    },
    include: ['*.mts'],
  })}\n`,
);
// Runs the compiled examples one after another in one process; the exit code counts failures.
writeFileSync(
  path.join(target, 'run.mjs'),
  `import { readdirSync } from 'node:fs';
const out = new URL('./out/', import.meta.url);
for (const file of readdirSync(out).filter((name) => name.endsWith('.mjs')).sort()) {
  const { write } = process.stdout;
  process.stdout.write = () => true; // what examples print is not looked at
  try {
    await import(new URL(file, out));
  } catch (error) {
    process.exitCode = 1;
    console.error(\`\${file}: \${error instanceof Error ? error.stack : error}\`);
  }
  process.stdout.write = write;
}
`,
);
console.log(`${count} examples`);
