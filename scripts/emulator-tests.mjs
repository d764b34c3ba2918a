// Compiles and runs the tests of the CUDA emulator (cuda/emulator/tests):
// `node scripts/emulator-tests.mjs [GROUP]`. Prints a JSON line per case. Objects are kept in .cmake
// and compiled again only when the sources or the compiler's command change. LONGSPAN_SANITIZE and CXX
// as in kernel-tests.mjs, but AddressSanitizer looks at the emulator here, which looks at the kernels.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { instrument, sanitize, showCopies } from './support/emulated-flags.mjs';
import { main, root } from './support/native-build.mjs';
import { BuildProblem, findToolchain } from './support/toolchain.mjs';

const tree = path.join(root, '.cmake', 'emulator-tests');
const emulator = path.join(root, 'cuda', 'emulator');
const tests = path.join(emulator, 'tests');

const sanitizer = sanitize();
const basic = ['-std=c++20', '-g1', '-fsigned-char', '-DLONGSPAN_EMULATED=1', '-I', root];
const warnings = ['-Wall', '-Wextra', '-Wno-unknown-pragmas', '-Wno-psabi'];

/** Headers of a CUDA toolkit, which only the comparison of conversions wants; without one it is left out. */
function toolkitFlags() {
  const homes = [process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda', '/opt/cuda'];
  const home = homes.find(
    (folder) => folder && existsSync(path.join(folder, 'include/cuda_fp16.h')),
  );
  return home ? ['-DLONGSPAN_TOOLKIT=1', '-isystem', path.join(home, 'include')] : [];
}

function listed(folder, pattern) {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => path.join(folder, entry.name))
    .sort();
}

function headers() {
  return [
    ...listed(path.join(root, 'cpp/core'), /\.h$/),
    ...listed(path.join(root, 'cuda'), /\.(h|cuh)$/),
    ...listed(path.join(root, 'cuda/ptx'), /\.cuh$/),
    ...listed(emulator, /\.h$/),
    ...listed(tests, /\.(h|cuh)$/),
  ];
}

function digest(files, seed) {
  const hash = createHash('sha256').update(seed);
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(file));
  return hash.digest('hex').slice(0, 20);
}

/** All of the emulator as one file: its rooms share most of what they include. */
function emulatorUnit() {
  const unit = path.join(tree, 'emulator.cc');
  const text = listed(emulator, /\.cc$/)
    .map((file) => `#include "${file}"\n`)
    .join('');
  if (!existsSync(unit) || readFileSync(unit, 'utf8') !== text) writeFileSync(unit, text);
  return unit;
}

function jobs(compiler) {
  const plain = ['-O2', ...basic, ...sanitizer.flags, ...warnings];
  // Cases read from null and off alignment on purpose: the emulator is to say so.
  const planted = sanitizer.instrumented.length > 0 ? ['-fno-sanitize=null,alignment'] : [];
  const checked = [...instrument(compiler), ...sanitizer.instrumented, ...planted];
  const kernels = ['-O2', '-ffp-contract=off', ...basic, ...warnings, ...checked];
  const toolkit = toolkitFlags();
  const define = toolkit.slice(0, 1);
  const rooms = listed(emulator, /\.cc$/);
  const job = (source, flags, depends) => {
    const args = [...flags, '-x', 'c++', '-c', source];
    const name = `${path.basename(source)}-${digest([...headers(), ...depends], [compiler, ...args].join(' '))}`;
    return { object: path.join(tree, `${name}.o`), args };
  };
  // Instrumented files last: of a library template that both use, the emulator must get its own copy.
  return [
    job(emulatorUnit(), plain, rooms),
    ...listed(tests, /\.cc$/).map((file) => job(file, [...plain, ...toolkit], [file])),
    ...listed(tests, /\.cu$/).map((file) => job(file, [...kernels, ...define], [file])),
  ];
}

function compile(compiler, { object, args }) {
  return new Promise((resolve, reject) => {
    const launcher = process.env.CMAKE_CXX_COMPILER_LAUNCHER;
    const command = launcher ? [launcher, compiler] : [compiler];
    const child = spawn(command[0], [...command.slice(1), ...args, '-o', object], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    child.on('error', reject);
    child.on('close', (status) =>
      status === 0 ? resolve() : reject(new BuildProblem('the emulator tests do not compile')),
    );
  });
}

async function compileAll(compiler, all) {
  const queue = all.filter((job) => !existsSync(job.object));
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      await compile(compiler, job);
      if (job.args.includes('-fsanitize=thread')) showCopies(compiler, job.object);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return queue.length;
}

async function run() {
  mkdirSync(tree, { recursive: true });
  const compiler = process.env.CXX ?? findToolchain(process.env).cxx;
  const all = jobs(compiler);
  await compileAll(compiler, all);
  const objects = all.map((job) => job.object);
  const program = path.join(tree, `tests-${digest(objects, compiler)}`);
  if (!existsSync(program)) {
    const args = [...objects, ...sanitizer.flags, '-o', program, '-pthread', '-ldl'];
    const link = spawnSync(compiler, args, { stdio: 'inherit' });
    if (link.status !== 0) throw new BuildProblem('the emulator tests do not link');
  }
  const result = spawnSync(program, process.argv.slice(2), { stdio: 'inherit' });
  if (result.signal) throw new BuildProblem(`the emulator tests ended by ${result.signal}`);
}

const outcome = run();
main(() => {});
outcome.catch((error) => {
  main(() => {
    throw error;
  });
});
