// Finds the tools of a source build and says, in one line, what is missing and which command cures
// it. CMake would find them too, but its answer to a missing compiler is a page of text.
import { spawnSync } from 'node:child_process';

const MIN_GCC = 11;
const MIN_CLANG = 14;
const MIN_CMAKE = [3, 22];

/** A problem that the user can cure; its message is one line and is printed without a stack. */
export class BuildProblem extends Error {}

/** `apt-get install` for the given packages, with sudo where it is needed. */
export function aptInstall(packages) {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  return `${sudo}apt-get install -y ${packages.join(' ')}`;
}

function output(command, args, input = '') {
  const run = spawnSync(command, args, { encoding: 'utf8', input });
  return run.status === 0 ? run.stdout : undefined;
}

// The default compiler first, then versioned names: an old default often has a newer one beside it.
function compilerNames(env) {
  if (env.CXX) return [env.CXX];
  const versioned = (name, newest, oldest) =>
    Array.from({ length: newest - oldest + 1 }, (_, i) => `${name}-${newest - i}`);
  return [
    'g++',
    'c++',
    'clang++',
    ...versioned('g++', 16, MIN_GCC),
    ...versioned('clang++', 22, MIN_CLANG),
  ];
}

/**
 * Preprocesses one standard header: proves in a single run that the compiler works, that a C++20
 * standard library is installed, and which version it is.
 */
function probeCompiler(command) {
  if (output(command, ['--version']) === undefined) return undefined;
  const args = ['-std=c++20', '-dM', '-E', '-x', 'c++', '-'];
  const macros = output(command, args, '#include <version>\n') ?? '';
  const major = (macro) => Number(new RegExp(`#define ${macro} (\\d+)`).exec(macros)?.[1] ?? 0);
  const clang = major('__clang_major__');
  const gcc = major('__GNUC__');
  if (!clang && !gcc) return { command, label: `${command} (cannot compile C++20)`, usable: false };
  return clang
    ? { command, label: `${command} (clang ${clang})`, usable: clang >= MIN_CLANG }
    : { command, label: `${command} (gcc ${gcc})`, usable: gcc >= MIN_GCC };
}

/** The C++ compiler, or undefined; what is wrong is added to `problems`. */
export function findCompiler(env, problems = []) {
  const wanted = `a C++20 compiler (g++ >= ${MIN_GCC} or clang++ >= ${MIN_CLANG})`;
  let rejected;
  for (const name of compilerNames(env)) {
    const found = probeCompiler(name);
    if (found?.usable) return found.command;
    rejected ??= found;
  }
  if (rejected) {
    problems.push({
      text: `${rejected.label} is too old or incomplete, ${wanted} is needed`,
      packages: ['g++-12'],
    });
  } else {
    problems.push({ text: `${wanted} was not found`, packages: ['build-essential'] });
  }
  return undefined;
}

function findCMake(problems) {
  const wanted = `CMake >= ${MIN_CMAKE.join('.')}`;
  const version = /version (\d+)\.(\d+)[^\s]*/.exec(output('cmake', ['--version']) ?? '');
  if (!version) {
    problems.push({ text: `${wanted} was not found`, packages: ['cmake'] });
    return;
  }
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major < MIN_CMAKE[0] || (major === MIN_CMAKE[0] && minor < MIN_CMAKE[1])) {
    problems.push({
      text: `CMake ${major}.${minor} is too old, ${wanted} is needed`,
      packages: ['cmake'],
    });
  }
}

function findGenerator(problems) {
  if (output('ninja', ['--version']) !== undefined) return 'Ninja';
  if (output('make', ['--version']) !== undefined) return 'Unix Makefiles';
  problems.push({ text: 'neither make nor ninja was found', packages: ['build-essential'] });
  return undefined;
}

/**
 * The compiler and the CMake generator to build with.
 * @throws {BuildProblem} naming everything that is missing and the one command that installs it
 */
export function findToolchain(env = process.env) {
  const problems = [];
  const cxx = findCompiler(env, problems);
  findCMake(problems);
  const generator = findGenerator(problems);
  if (problems.length > 0) {
    const packages = [...new Set(problems.flatMap((problem) => problem.packages))];
    const texts = problems.map((problem) => problem.text).join('; ');
    throw new BuildProblem(
      `cannot build the native addon: ${texts}. ` +
        `On Debian >= 12 or Ubuntu >= 22.04 run: ${aptInstall(packages)}`,
    );
  }
  return { cxx, generator };
}
