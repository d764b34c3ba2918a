// `npm run gpu-bundle [-- FILE]`: packs what a GPU host without network, Node.js or compilers lacks to
// test and time this working tree: Node.js, the addon with CUDA for sm_80 and sm_90a, compiled
// TypeScript, kernel programs and Jest. There, in a copy of the tree with FILE (default
// build/gpu-bundle.tar.xz) in it, one command does the rest: `bash scripts/gpu-host.sh`.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { buildNative, buildOptions, isFresh, main, root } from './support/native-build.mjs';
import { BuildProblem } from './support/toolchain.mjs';

const MOST_MEGABYTES = 40;
const staging = path.join(root, 'build', 'gpu');
// What is run there, and nothing that only builds or judges sources.
const PACKAGES = ['jest', 'commander', 'cli-progress', 'node-gyp-build'];
const LEFT_OUT = ['*.d.ts', '*.d.mts', '*.d.cts', '*.map', '*.md', '*.markdown', '*.tsbuildinfo'];

function run(command, args, options) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (result.status !== 0) {
    throw new BuildProblem(`'${command} ${args.join(' ')}' failed`);
  }
}

/** Folders of the packages and of everything they need, relative to the root. */
function closure(names) {
  const folders = new Set();
  const add = (name, from, optional) => {
    const found = (createRequire(from).resolve.paths(name) ?? [])
      .map((modules) => path.join(modules, name))
      .find((folder) => folder.startsWith(root) && existsSync(path.join(folder, 'package.json')));
    if (!found && optional) return;
    if (!found) throw new BuildProblem(`the package ${name} is not installed. Run: npm ci`);
    const folder = path.relative(root, found);
    if (folders.has(folder)) return;
    folders.add(folder);
    const manifest = path.join(found, 'package.json');
    const needs = JSON.parse(readFileSync(manifest, 'utf8'));
    for (const need of Object.keys(needs.dependencies ?? {})) add(need, manifest, false);
    for (const need of Object.keys(needs.optionalDependencies ?? {})) add(need, manifest, true);
  };
  for (const name of names) add(name, path.join(root, 'package.json'), false);
  // A package inside another one is packed with it.
  const all = [...folders];
  return all.filter((folder) => !all.some((other) => folder.startsWith(`${other}${path.sep}`)));
}

function strip(from, to) {
  mkdirSync(path.dirname(to), { recursive: true });
  copyFileSync(from, to);
  run('strip', ['--strip-unneeded', to]);
}

main(() => {
  const archive = path.resolve(process.argv[2] ?? path.join(root, 'build', 'gpu-bundle.tar.xz'));
  const env = {
    ...process.env,
    LONGSPAN_CUDA: 'on',
    LONGSPAN_CUDA_ARCHITECTURES: process.env.LONGSPAN_CUDA_ARCHITECTURES || '80,90a',
    LONGSPAN_UNITY: 'off', // the kernel programs are linked from objects of single files
  };
  const built = path.join(root, 'build', 'cuda', 'build', 'Release', 'longspan.node');
  if (!isFresh(built, buildOptions(env))) buildNative({ binary: built, env });
  rmSync(staging, { recursive: true, force: true });
  strip(built, path.join(staging, 'addon', 'build', 'Release', 'longspan.node'));
  strip(realpathSync(process.execPath), path.join(staging, 'bin', 'node'));
  const kernels = path.join(staging, 'kernels');
  run(process.execPath, ['scripts/kernel-tests.mjs', '--hardware', kernels], { env });
  for (const name of readdirSync(kernels)) run('strip', [path.join(kernels, name)]);
  const tsc = path.join(root, 'node_modules', '.bin', 'tsc');
  for (const folder of ['dist', '.test-build']) {
    rmSync(path.join(root, folder), { recursive: true, force: true });
  }
  for (const project of ['tsconfig.json', 'tsconfig.test.json']) run(tsc, ['-p', project]);

  const contents = [path.relative(root, staging), 'dist', '.test-build', ...closure(PACKAGES)];
  const excluded = LEFT_OUT.map((pattern) => `--exclude=${pattern}`);
  mkdirSync(path.dirname(archive), { recursive: true });
  // The same files give the same archive.
  const order = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner'];
  run('tar', ['-cJf', archive, ...order, ...excluded, ...contents], {
    env: { ...process.env, XZ_OPT: '-9 -T0' },
  });
  const megabytes = statSync(archive).size / 1e6;
  console.log(`${path.relative(process.cwd(), archive)}: ${megabytes.toFixed(1)} MB`);
  if (megabytes > MOST_MEGABYTES) {
    throw new BuildProblem(`the bundle has ${megabytes.toFixed(1)} MB, at most ${MOST_MEGABYTES}`);
  }
});
