// The bridge from binding.gyp (node-gyp-build, prebuildify) to cmake-js.
// CMake's own tree is kept outside build/, because `node-gyp rebuild` (what
// node-gyp-build and prebuildify run) deletes build/ first.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const NAME = 'longspan';
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const [dest, config = 'Release'] = process.argv.slice(2);
const require = createRequire(path.join(root, 'package.json'));
const cmakeJs = path.join(path.dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
const out = path.join(root, '.cmake', config);
const env = process.env;
const common = ['-d', root, '-O', out, '-B', config];
// always passed, so that a stale cache never decides
const defines = [
  `--CDLONGSPAN_CUDA=${env.LONGSPAN_CUDA ?? 'AUTO'}`,
  ...(env.LONGSPAN_CUDA_ARCHS ? [`--CDLONGSPAN_CUDA_ARCHS=${env.LONGSPAN_CUDA_ARCHS}`] : []),
];
function run(...args) {
  const r = spawnSync(process.execPath, [cmakeJs, ...args], { cwd: root, stdio: 'inherit' });
  if (r.status !== 0) process.exit(r.status ?? 1);
}
// `cmake-js build` alone skips configuring when a CMakeCache.txt exists and so drops new --CD values
run('configure', ...common, ...defines);
run('build', ...common, '-p', env.LONGSPAN_JOBS ?? String(availableParallelism()));
if (dest) {
  mkdirSync(path.dirname(path.resolve(dest)), { recursive: true });
  copyFileSync(path.join(out, `${NAME}.node`), dest);
}
