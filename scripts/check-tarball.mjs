// `npm run check:tarball`: packs the package with its prebuilt binary and installs it, with and
// without install scripts, on a PATH that has no compiler; then computes by require and by import.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { root } from './support/native-build.mjs';
import { isBuildTool, toolPath } from './support/tool-path.mjs';

// Runs after `require` and after `import`, with the package as `longspan`: reading a transposed view
// makes native code copy by stride, a product and its gradient run the kernels of this machine's
// instruction-set level.
const COMPUTE = `
const a = longspan.tensor([[1, 2, 3], [4, 5, 6]]).requireGrad();
const product = longspan.matmul(a, longspan.transpose(a, 0, 1));
const data = await product.data();
if (String(data) !== '14,32,32,77') throw new Error('wrong product: ' + data);
longspan.sum(product).backward();
const gradient = await a.grad.data();
if (String(gradient) !== '10,14,18,10,14,18') throw new Error('wrong gradient: ' + gradient);
console.log(Object.keys(longspan).length + ' exports, computed ' + data);
`;

function run(command, args, options) {
  const result = spawnSync(command, args, { stdio: 'inherit', ...options });
  if (result.status !== 0) throw new Error(`'${command} ${args.join(' ')}' failed`);
}

function consume(folder, tarball, env, installFlags) {
  mkdirSync(folder);
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true }');
  writeFileSync(
    path.join(folder, 'compute.cjs'),
    `const longspan = require('longspan');\n(async () => {${COMPUTE}})();\n`,
  );
  writeFileSync(
    path.join(folder, 'compute.mjs'),
    `import * as longspan from 'longspan';\nimport { LongspanError } from 'longspan';\n` +
      `void LongspanError;\n${COMPUTE}`,
  );
  run('npm', ['install', '--no-audit', '--no-fund', ...installFlags, tarball], {
    cwd: folder,
    env,
  });
  if (existsSync(path.join(folder, 'node_modules/longspan/build'))) {
    throw new Error('the package was built from source, its prebuilt binary was not used');
  }
  run('node', ['compute.cjs'], { cwd: folder, env });
  run('node', ['compute.mjs'], { cwd: folder, env });
}

const work = mkdtempSync(path.join(tmpdir(), 'longspan-tarball-'));
try {
  run('npm', ['run', 'prebuildify'], { cwd: root });
  run('npm', ['run', 'check:symbols'], { cwd: root });
  run('npm', ['pack', '--pack-destination', work], { cwd: root });
  const tarball = path.join(
    work,
    readdirSync(work).find((name) => name.endsWith('.tgz')),
  );

  // npm hands its own configuration down as npm_*; the consumer's npm must not inherit it. A cache
  // of its own shows that nothing comes from what this machine has downloaded before.
  const inherited = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name));
  const env = {
    ...Object.fromEntries(inherited),
    PATH: toolPath(path.join(work, 'bin'), (name) => !isBuildTool(name)),
    npm_config_cache: path.join(work, 'cache'),
  };
  consume(path.join(work, 'with-scripts'), tarball, env, []);
  consume(path.join(work, 'without-scripts'), tarball, env, ['--ignore-scripts']);
  console.log('The tarball installs and computes without a compiler.');
} finally {
  rmSync(work, { recursive: true, force: true });
}
