// Runs kernels on the emulator without the addon: `node scripts/kernel-tests.mjs [NAME...] [--planted]`.
// test/cuda/NAME_*.cc call every kernel of NAME (matmul, attention, sorted; default: all) over ragged shapes,
// schedules and both modes of asynchrony. With --planted each bug that the kernels' sources know is built
// in, and the program must fail. LONGSPAN_SANITIZE=undefined ends programs at undefined behaviour;
// =address lets AddressSanitizer see each array of a kernel's threads and what the host allocates, instead of
// the emulator device and shared memory. CXX names another compiler. Objects are kept in .cmake and
// compiled again when a source has changed.
//
// `--hardware FOLDER` builds the programs for real GPUs instead, from the kernels of the last build with
// LONGSPAN_CUDA=on LONGSPAN_UNITY=off, and runs none: they are small enough for compute-sanitizer on another machine.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { cudaOptions } from './support/cuda-toolkit.mjs';
import { instrument, sanitize, showCopies } from './support/emulated-flags.mjs';
import { main, root } from './support/native-build.mjs';
import { BuildProblem, findToolchain } from './support/toolchain.mjs';

const tree = path.join(root, '.cmake', 'kernel-tests');
const files = ['cuda', 'test/cuda'].flatMap((folder) =>
  readdirSync(path.join(root, folder), { recursive: true }).map((f) => `${folder}/${f}`),
);
const matching = (pattern) => files.filter((file) => pattern.test(file)).sort();

const emulator = matching(/^cuda\/emulator\/\w+\.cc$/);
const shared = [
  'cpp/core/recycler.cc',
  'cpp/core/status.cc',
  'cpp/core/tensor_view.cc',
  'cpp/ops/check.cc',
  'cpp/ops/registry.cc',
];
const headers = [
  ...matching(/\.(h|cuh)$/),
  ...['dense', 'attention', 'sparse'].flatMap((family) =>
    readdirSync(path.join(root, 'cpp/ops', family))
      .filter((file) => file.endsWith('.h'))
      .map((file) => `cpp/ops/${family}/${file}`),
  ),
  'cpp/ops/operator.h',
];

const testsOf = (name) => matching(new RegExp(`^test/cuda/${name}_\\w+\\.cc$`));

const numbered = (from, to, file, only) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ bug: from + i, file, only }));

// What is to come of LONGSPAN_CUBLASLT with a library that behaves so; test/cuda/matmul_cublaslt.cc.
const cublasLtRuns = [
  ['on', 'well', 'used'],
  ['on', 'unsupported', 'unused'],
  ['on', 'failing', 'failed'],
  ['on', 'absent', 'missing'],
  ['auto', 'well', 'used'],
  ['auto', 'slow', 'unused'],
  ['auto', 'unsupported', 'unused'],
  ['auto', 'failing', 'unused'],
  ['auto', 'absent', 'untouched'],
  ['off', 'well', 'untouched'],
].map(([use, library, expected]) => ({
  name: `cuBLASLt ${use}, ${library}`,
  args: ['--cublaslt', expected],
  env: (fake) => ({
    LONGSPAN_CUBLASLT: use,
    LONGSPAN_CUBLASLT_LIBRARY: library === 'absent' ? `${fake}.absent` : fake,
    FAKE_CUBLASLT: library,
  }),
}));

// `fake`: a library that is loaded at run time in `runs`. `planted`: the file that a bug is built into, its number, and the cases that meet it.
const programs = {
  matmul: {
    plain: [
      'cuda/cublaslt.cc',
      ...matching(/^cuda\/dense\/matmul\w*\.cc$/),
      'cpp/ops/dense/linear.cc',
      'cpp/ops/dense/matmul.cc',
    ],
    kernels: [
      'cuda/core/sm90a.cu',
      'cuda/tensor_map.cu',
      ...matching(/^cuda\/dense\/matmul\w*\.cu$/),
    ],
    fake: 'test/cuda/fake_cublaslt.cc',
    runs: cublasLtRuns,
    macro: 'LONGSPAN_PLANTED_MATMUL',
    planted: [
      ...numbered(1, 4, 'cuda/dense/matmul_mma.cu', 'k rows'),
      ...numbered(5, 7, 'cuda/dense/matmul_fma.cu', 'f32 k k'),
      ...numbered(8, 14, 'cuda/dense/matmul_wgmma.cu', 'wgmma planted'),
    ],
  },
  attention: {
    plain: [
      'attention',
      'attention_backward',
      'attention_bias_backward',
      'attention_decode',
      'problem',
    ].map((file) => `cpp/ops/attention/${file}.cc`),
    kernels: [
      'cuda/core/sm90a.cu',
      'cuda/tensor_map.cu',
      'cuda/dense/copy.cu',
      ...matching(/^cuda\/attention\/attention\w*\.cu$/),
    ],
    macro: 'LONGSPAN_PLANTED_ATTENTION',
    planted: [
      ...numbered(1, 11, 'cuda/attention/attention.cu', 'planted'),
      ...numbered(12, 18, 'cuda/attention/attention_decode.cu', 'planted'),
      ...numbered(19, 28, 'cuda/attention/attention_backward.cu', 'planted'),
      ...numbered(29, 29, 'cuda/attention/attention_statistics.cu', 'planted'),
      ...numbered(30, 34, 'cuda/attention/attention_bias_backward.cu', 'planted'),
      ...numbered(35, 49, 'cuda/attention/attention.cu', 'hopper planted'),
      ...numbered(50, 60, 'cuda/attention/attention_backward90.cu', 'hopper planted'),
    ],
  },
  sorted: {
    plain: ['sparse/sorted_attention', 'attention/problem'].map((file) => `cpp/ops/${file}.cc`),
    kernels: [
      'cuda/core/sm90a.cu',
      'cuda/dense/copy.cu',
      'cuda/attention/attention_statistics.cu',
      ...matching(/^cuda\/sparse\/sorted_\w+\.cu$/),
    ],
    macro: 'LONGSPAN_PLANTED_ATTENTION',
    planted: [
      ...numbered(1, 11, 'cuda/sparse/sorted_attention.cu', 'planted'),
      ...numbered(21, 22, 'cuda/sparse/sorted_attention_backward.cu', 'planted'),
      ...numbered(24, 28, 'cuda/sparse/sorted_attention_backward.cu', 'planted'),
      ...numbered(8, 11, 'cuda/sparse/sorted_attention.cu', 'wide planted'),
      ...numbered(25, 28, 'cuda/sparse/sorted_attention_backward.cu', 'wide planted'),
    ],
  },
};

const plainFlags = ['-std=c++20', '-O2', '-g1', '-fsigned-char', `-I${root}`];
const sanitizer = sanitize();
const common = [...plainFlags, '-DLONGSPAN_EMULATED=1', ...sanitizer.flags];
// The emulator would take what it is not shown for uninitialised.
const environment = sanitizer.address ? { LONGSPAN_EMULATED_CHECKS: 'off' } : {};
const quiet = ['-Wno-unknown-pragmas', '-Wno-psabi'];

function run(command, args, env = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...environment, ...env },
  });
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
  if (flags.includes('-fsanitize=thread')) showCopies(compiler, object);
  return object;
}

// -rdynamic: what is loaded at run time calls the emulated runtime.
function link(compiler, objects, program, flags = ['-rdynamic']) {
  const all = [...objects, ...flags, ...sanitizer.flags, '-o', program, '-pthread', '-ldl'];
  const result = run(compiler, all);
  if (result.status !== 0) throw new BuildProblem(`it does not link:\n${result.stderr}`);
  return program;
}

function runWithFake(compiler, program, fake, runs) {
  const object = compile(compiler, fake, [...common, ...quiet, '-fPIC']);
  const library = link(compiler, [object], path.join(tree, 'fake.so'), ['-shared']);
  for (const { name, args, env } of runs) {
    const result = run(program, args, env(library));
    console.log(`${name}: ${result.stdout.trimEnd()}`);
    if (result.status !== 0) throw new BuildProblem(`'${name}' fails on the emulator`);
  }
}

function runKernels(name, compiler, withPlanted) {
  const { plain, kernels, fake, runs = [], macro, planted } = programs[name];
  const seen = sanitizer.address ? [] : instrument(compiler);
  const kernelFlags = [...common, ...quiet, '-ffp-contract=off', ...seen];
  const ours = [...emulator, ...shared, ...plain, ...testsOf(name)];
  // Instrumented files last: of a template that both instantiate the linker keeps the first.
  const objects = new Map([
    ...ours.map((file) => [file, compile(compiler, file, [...common, ...quiet])]),
    ...kernels.map((file) => [file, compile(compiler, file, kernelFlags)]),
  ]);
  const program = link(compiler, objects.values(), path.join(tree, name));
  if (!withPlanted) {
    const result = run(program, []);
    console.log(`${name}: ${result.stdout.trimEnd()}`);
    if (sanitizer.flags.length > 0) process.stderr.write(result.stderr);
    if (result.status !== 0) throw new BuildProblem(`kernels of ${name} fail on the emulator`);
    if (runs.length > 0) runWithFake(compiler, program, fake, runs);
    return;
  }
  const unnoticed = [];
  for (const { bug, file, only } of planted) {
    const object = compile(compiler, file, [...kernelFlags, `-D${macro}=${bug}`]);
    const others = [...objects].filter(([made]) => made !== file).map(([, made]) => made);
    const broken = link(compiler, [...others, object], path.join(tree, `${name}-planted`));
    const result = run(broken, [only]);
    const noticed = result.status !== 0;
    if (!noticed) unnoticed.push(bug);
    const lines = result.stdout.split('\n');
    const found = lines.find((line) => /[A-Z]{4}/.test(line)) ?? lines[0];
    console.log(
      `${name}, planted bug ${bug}: ${noticed ? found.trim().slice(0, 160) : 'NOT NOTICED'}`,
    );
  }
  if (unnoticed.length > 0) {
    throw new BuildProblem(`planted bugs of ${name} that are not noticed: ${unnoticed.join(', ')}`);
  }
}

function buildForHardware(name, compiler, folder) {
  const { plain, kernels } = programs[name];
  const { LONGSPAN_CUDA_INCLUDE: include, LONGSPAN_CUDART: cudart } = cudaOptions({
    ...process.env,
    LONGSPAN_CUDA: 'on',
  });
  const flags = [...plainFlags, ...quiet, '-isystem', include];
  const made = kernels.map((file) => path.join(root, '.cmake/Release/nvcc', `${file}.o`));
  const missing = made.find((object) => !existsSync(object));
  if (missing)
    throw new BuildProblem(
      `${missing} is missing: build with LONGSPAN_CUDA=on LONGSPAN_UNITY=off first`,
    );
  const ours = [...shared, ...plain, ...testsOf(name)];
  const objects = [...ours.map((file) => compile(compiler, file, flags)), ...made];
  mkdirSync(folder, { recursive: true });
  console.log(link(compiler, objects, path.join(folder, name), [cudart, '-lrt']));
}

main(() => {
  const { values, positionals: names } = parseArgs({
    allowPositionals: true,
    options: { planted: { type: 'boolean' }, hardware: { type: 'string' } },
  });
  const unknown = names.find((name) => !(name in programs));
  if (unknown) {
    throw new BuildProblem(
      `no kernels '${unknown}'. There are ${Object.keys(programs).join(', ')}`,
    );
  }
  if (values.planted && sanitizer.address) {
    throw new BuildProblem(
      'planted bugs are for the emulator to notice: LONGSPAN_SANITIZE=address hides them',
    );
  }
  mkdirSync(tree, { recursive: true });
  const compiler = process.env.CXX ?? findToolchain(process.env).cxx;
  for (const name of names.length > 0 ? names : Object.keys(programs)) {
    if (values.hardware) buildForHardware(name, compiler, path.resolve(values.hardware));
    else runKernels(name, compiler, values.planted);
  }
});
