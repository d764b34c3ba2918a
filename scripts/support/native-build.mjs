// Builds the addon with cmake-js, and knows whether a binary already belongs to the sources.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cudaOptions } from './cuda-toolkit.mjs';
import { BuildProblem, findToolchain } from './toolchain.mjs';

/** Root of the package. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
/** Where node-gyp-build looks first. */
export const defaultBinary = path.join(root, 'build', 'Release', 'longspan.node');

/** True in a clone of the repository; the published package leaves tsconfig.json out. */
export const isCheckout = existsSync(path.join(root, 'tsconfig.json'));

const require = createRequire(path.join(root, 'package.json'));

function buildJobs(env) {
  const jobs = env.LONGSPAN_JOBS ?? String(availableParallelism());
  if (!/^[1-9]\d*$/.test(jobs)) {
    throw new BuildProblem(`LONGSPAN_JOBS=${jobs} is not a positive whole number`);
  }
  return jobs;
}

// Every option is passed every time: what an earlier run left in CMake's cache never decides.
const NO_CUDA = {
  LONGSPAN_CUDA_REASON: '',
  LONGSPAN_NVCC: '',
  LONGSPAN_NVCC_VERSION: '',
  LONGSPAN_CUDA_INCLUDE: '',
  LONGSPAN_CUDART: '',
  LONGSPAN_CUDA_ARCHITECTURES: '',
};

/** The CMake variables that a build is made with; CMakeLists.txt says what each may be. */
export function buildOptions(env = process.env) {
  return {
    ...NO_CUDA,
    ...cudaOptions(env),
    LONGSPAN_WERROR: (env.LONGSPAN_WERROR || 'off').toLowerCase(),
    LONGSPAN_SANITIZE: env.LONGSPAN_SANITIZE ?? '',
    LONGSPAN_UNITY: (env.LONGSPAN_UNITY || 'auto').toLowerCase(),
  };
}

/**
 * A hash over everything a binary is made of. Contents, not times: `git clone` and npm both set
 * file times that say nothing about which is newer.
 */
export function fingerprint(options) {
  const hash = createHash('sha256').update(JSON.stringify(options));
  const add = (relative) => {
    hash.update(`\0${relative}\0`).update(readFileSync(path.join(root, relative)));
  };
  add('package.json');
  add('CMakeLists.txt');
  add('scripts/support/native-build.mjs');
  for (const folder of ['cpp', 'cuda']) {
    if (!existsSync(path.join(root, folder))) continue;
    const entries = readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true });
    entries
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
      .sort()
      .forEach(add);
  }
  return hash.digest('hex');
}

const stampOf = (binary) => `${binary}.stamp`;

/** True when `binary` was built from exactly these sources and options. */
export function isFresh(binary, options) {
  return (
    existsSync(binary) &&
    existsSync(stampOf(binary)) &&
    readFileSync(stampOf(binary), 'utf8') === fingerprint(options)
  );
}

function findCmakeJs() {
  try {
    require.resolve('node-addon-api');
    return path.join(path.dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
  } catch {
    const install = isCheckout
      ? 'npm ci --include=dev'
      : 'npm install --save-dev cmake-js node-addon-api && npm rebuild longspan';
    throw new BuildProblem(
      'building the native addon needs the packages cmake-js and node-addon-api, which are not ' +
        `installed. Run: ${install}`,
    );
  }
}

/**
 * CMake keeps generator, compiler and source folder from its first run and refuses, or half
 * ignores, a change. A tree of another toolchain is removed so that it cannot decide.
 */
export function dropForeignTree(tree, toolchain) {
  const cacheFile = path.join(tree, 'CMakeCache.txt');
  if (!existsSync(cacheFile)) return;
  const cache = readFileSync(cacheFile, 'utf8');
  const cached = (name) => new RegExp(`^${name}:[^=]*=(.*)$`, 'm').exec(cache)?.[1];
  const compiler = cached('CMAKE_CXX_COMPILER') ?? '';
  const same =
    cached('CMAKE_GENERATOR') === toolchain.generator &&
    cached('CMAKE_HOME_DIRECTORY') === root &&
    path.basename(compiler) === path.basename(toolchain.cxx) &&
    // CMake keeps a path after its first run and the bare name it was given after the next.
    (!path.isAbsolute(compiler) || existsSync(compiler));
  if (!same) rmSync(tree, { recursive: true, force: true });
}

/** Prints the configure step's own lines only; of a refusal by CMakeLists.txt, its one sentence. */
function reportConfigure(run) {
  const text = `${run.stdout}\n${run.stderr}`;
  if (run.status !== 0) {
    const refusal = /longspan: (.*?)\n\s*\n/s.exec(`${run.stderr}\n\n`);
    if (!refusal) process.stderr.write(text);
    throw new BuildProblem(refusal ? refusal[1].replace(/\s+/g, ' ') : 'CMake cannot configure');
  }
  for (const line of text.match(/^-- longspan: .*$/gm) ?? []) console.log(line.slice(3));
}

/**
 * Configures and builds, and puts the addon at `binary` with a stamp beside it. CMake's own tree is
 * kept outside build/, because `node-gyp rebuild` deletes build/ first.
 */
export function buildNative({ binary, config = 'Release', env = process.env }) {
  const options = buildOptions(env);
  const jobs = buildJobs(env);
  const cmakeJs = findCmakeJs();
  const toolchain = findToolchain(env);
  // A sanitized build has a tree of its own, so that changing over costs no full rebuild. The emulated
  // build shares that of the ordinary one: only the objects of the backend differ.
  const tree = path.join(root, '.cmake', options.LONGSPAN_SANITIZE.replace(',', '-'), config);
  dropForeignTree(tree, toolchain);
  // Taken before building: sources edited meanwhile must not count as built.
  const stamp = fingerprint(options);

  const common = ['-d', root, '-O', tree, '-B', config, '-l', 'error'];
  // cmake-js looks for gcc or clang on PATH unless it is given both compilers; only C++ is used.
  const compilers = ['--cc', toolchain.cxx, '--cxx', toolchain.cxx, '-G', toolchain.generator];
  const defines = Object.entries(options).map(([name, value]) => `--CD${name}=${value}`);
  const cmakeJsRun = (command, args, stdio) =>
    spawnSync(process.execPath, [cmakeJs, command, ...common, ...args], {
      cwd: root,
      env,
      stdio,
      encoding: 'utf8',
    });

  // `cmake-js build` alone skips configuring where a cache exists, and so drops new options.
  reportConfigure(cmakeJsRun('configure', [...compilers, ...defines], 'pipe'));
  const build = cmakeJsRun('build', ['-p', jobs], ['ignore', 'inherit', 'inherit']);
  if (build.status !== 0) throw new BuildProblem('the native build failed; the errors are above');

  // Renamed into place: a process that has the old binary mapped must not see it overwritten.
  const temporary = `${binary}.${process.pid}.tmp`;
  mkdirSync(path.dirname(binary), { recursive: true });
  copyFileSync(path.join(tree, 'longspan.node'), temporary);
  renameSync(temporary, binary);
  writeFileSync(stampOf(binary), stamp);
}

/** Runs a build script's body; a BuildProblem ends it with one line instead of a stack. */
export function main(body) {
  try {
    body();
  } catch (error) {
    if (!(error instanceof BuildProblem)) throw error;
    console.error(`longspan: ${error.message}`);
    process.exitCode = 1;
  }
}
