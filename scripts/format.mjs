// `npm run format` rewrites, `npm run lint` (--check) only judges: Biome for TypeScript, JavaScript
// and JSON, clang-format for C++ and CUDA. Both come from npm, so everyone has the same versions.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { root } from './support/native-build.mjs';

const require = createRequire(import.meta.url);
const check = process.argv.includes('--check');

function run(command, args) {
  return spawnSync(command, args, { cwd: root, stdio: 'inherit' }).status === 0;
}

function biome() {
  const bin = path.join(path.dirname(require.resolve('@biomejs/biome/package.json')), 'bin/biome');
  const mode = check ? ['check', '--error-on-warnings'] : ['check', '--write'];
  return run(process.execPath, [bin, ...mode, '.']);
}

/** The npm package carries binaries for x64 only; elsewhere an installed clang-format serves. */
function findClangFormat() {
  const packaged = path.join(
    path.dirname(require.resolve('clang-format/package.json')),
    `bin/${process.platform}_${process.arch}/clang-format`,
  );
  for (const candidate of [packaged, 'clang-format']) {
    if (spawnSync(candidate, ['--version'], { stdio: 'ignore' }).status === 0) return candidate;
  }
  return undefined;
}

function nativeSources() {
  return ['cpp', 'cuda', 'test/cuda']
    .map((folder) => path.join(root, folder))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) =>
      readdirSync(folder, { recursive: true }).map((file) => path.join(folder, file)),
    )
    .filter((file) => /\.(cc|h|cu|cuh)$/.test(file));
}

function clangFormat() {
  const files = nativeSources();
  if (files.length === 0) return true;
  const command = findClangFormat();
  if (!command) {
    const here = `${process.platform}-${process.arch}`;
    console.error(`C++ sources not checked: no clang-format for ${here}, install clang-format 15.`);
    return true;
  }
  return run(command, [...(check ? ['--dry-run', '-Werror'] : ['-i']), ...files]);
}

// Both always run: one fix round for all complaints.
const passed = [biome(), clangFormat()];
if (passed.includes(false)) process.exitCode = 1;
