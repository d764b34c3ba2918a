// Runs kernels on the emulator without the addon: `node scripts/kernel-tests.mjs [--planted]`.
// test/cuda/matmul_main.cc calls every kernel of matmul over ragged shapes, schedules and both modes of
// asynchrony. With --planted each bug of cuda/dense/matmul_planted.cuh is built in, and the program must
// fail. Objects are kept in .cmake and compiled again when any source has changed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { main, root } from './support/native-build.mjs';
import { BuildProblem, findToolchain } from './support/toolchain.mjs';

const tree = path.join(root, '.cmake', 'kernel-tests');
const files = readdirSync(path.join(root, 'cuda'), { recursive: true }).map((f) => `cuda/${f}`);
const matching = (pattern) => files.filter((file) => pattern.test(file)).sort();

const plainSources = [
  ...matching(/^cuda\/emulator\/\w+\.cc$/),
  'cuda/dense/matmul_plan.cc',
  'cpp/core/status.cc',
  'cpp/core/tensor_view.cc',
  'cpp/ops/check.cc',
  'cpp/ops/registry.cc',
  'cpp/ops/dense/linear.cc',
  'cpp/ops/dense/matmul.cc',
  'test/cuda/matmul_main.cc',
];
const kernelSources = ['cuda/tensor_map.cu', ...matching(/^cuda\/dense\/matmul\w*\.cu$/)];
const headers = [...matching(/\.(h|cuh)$/), 'cpp/ops/dense/matmul.h', 'cpp/ops/operator.h'];

/** The file that a planted bug is built into, its number, and a case of matmul_main.cc that meets it. */
const planted = [
  ...[1, 2, 3, 4].map((bug) => ({ bug, file: 'cuda/dense/matmul_mma.cu', only: 'k rows' })),
  ...[5, 6, 7].map((bug) => ({ bug, file: 'cuda/dense/matmul_fma.cu', only: 'f32 k k' })),
];

const common = ['-std=c++20', '-O2', '-g1', '-fsigned-char', '-DLONGSPAN_EMULATED=1', `-I${root}`];
const quiet = ['-Wno-unknown-pragmas', '-Wno-psabi'];

function instrument(compiler) {
  return compiler.includes('clang')
    ? ['-fsanitize=thread', '-mllvm', '-tsan-instrument-func-entry-exit=0']
    : ['-fsanitize=thread', '--param=tsan-instrument-func-entry-exit=0', '-Wno-tsan'];
}

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  if (result.error || result.signal) {
    throw new BuildProblem(`${command} ended by ${result.signal ?? result.error.message}`);
  }
  return result;
}

function compile(compiler, file, flags) {
  const hash = createHash('sha256').update([compiler, file, ...flags].join(' '));
  for (const source of [file, ...headers]) hash.update(readFileSync(path.join(root, source)));
  const object = path.join(tree, `${path.basename(file)}-${hash.digest('hex').slice(0, 16)}.o`);
  if (existsSync(object)) return object;
  const result = run(compiler, [...flags, '-x', 'c++', '-c', file, '-o', object]);
  if (result.status !== 0) throw new BuildProblem(`${file} does not compile:\n${result.stderr}`);
  return object;
}

function link(compiler, objects, program) {
  const result = run(compiler, [...objects, '-o', program, '-pthread', '-ldl']);
  if (result.status !== 0) throw new BuildProblem(`it does not link:\n${result.stderr}`);
  return program;
}

main(() => {
  mkdirSync(tree, { recursive: true });
  const compiler = process.env.CXX ?? findToolchain(process.env).cxx;
  const kernelFlags = [...common, ...quiet, '-ffp-contract=off', ...instrument(compiler)];
  const objects = new Map([
    ...plainSources.map((file) => [file, compile(compiler, file, [...common, ...quiet])]),
    ...kernelSources.map((file) => [file, compile(compiler, file, kernelFlags)]),
  ]);
  const program = link(compiler, objects.values(), path.join(tree, 'matmul'));
  if (!process.argv.includes('--planted')) {
    const result = run(program, process.argv.slice(2));
    console.log(result.stdout.trimEnd());
    if (result.status !== 0) throw new BuildProblem('kernels of matmul fail on the emulator');
    return;
  }
  for (const { bug, file, only } of planted) {
    const object = compile(compiler, file, [...kernelFlags, `-DLONGSPAN_PLANTED_MATMUL=${bug}`]);
    const others = [...objects].filter(([name]) => name !== file).map(([, made]) => made);
    const broken = link(compiler, [...others, object], path.join(tree, `matmul-${bug}`));
    const result = run(broken, [only]);
    const found = result.stdout.split('\n').find((line) => /RACE|UNINITIALISED/.test(line));
    if (result.status === 0 || !found) throw new BuildProblem(`planted bug ${bug} is not noticed`);
    console.log(`planted bug ${bug}: ${found.slice(found.search(/RACE|UNINIT/))}`);
  }
});
