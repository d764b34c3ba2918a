// `npm run test:sanitize -- address,undefined|thread [JEST ARGUMENTS...]`: builds the addon with
// sanitizers beside the ordinary build and runs the tests on it, by default those that compute.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { buildNative, main, root } from './support/native-build.mjs';
import { BuildProblem } from './support/toolchain.mjs';

// Others test how the package is built, installed and called.
const COMPUTING = 'test/(attention|core|dense|models|native|nn|optim|sparse|train)/';
const [kind = 'address,undefined', ...given] = process.argv.slice(2);
const jestArguments = given.length > 0 ? given : ['--testPathPatterns', COMPUTING];
const compiler = process.env.CXX ?? 'g++';
const require = createRequire(import.meta.url);

/** The sanitizer's run-time library; it has to be in the process before Node itself is. */
function runtimeLibrary() {
  const name = kind === 'thread' ? 'libtsan.so' : 'libasan.so';
  const file = spawnSync(compiler, [`-print-file-name=${name}`], {
    encoding: 'utf8',
  }).stdout.trim();
  if (!path.isAbsolute(file)) throw new BuildProblem(`${compiler} has no ${name}`);
  return file;
}

/** True when one of the two accesses was made by the addon's code, whatever called it. */
function isOurs(report) {
  const accesses = report.split(/^ {2}(?=\S.* of size \d)/m).slice(1);
  if (accesses.length === 0) return report.includes('longspan.node'); // a deadlock, say
  // The first frame outside the sanitizer's own allocator, memcpy and mutex functions.
  const culprit = /^ {4}#\d+ (?!.*\((libtsan|libasan)).*$/m;
  return accesses.some((access) => culprit.exec(access)?.[0].includes('(longspan.node'));
}

/**
 * Prints the races in which our code takes part. Node has races of its own, which a list of
 * suppressions could not tell from ours: its frames are on every stack of the JavaScript thread.
 */
function racesOfTheAddon(folder) {
  const races = readdirSync(folder)
    .map((name) => readFileSync(path.join(folder, name), 'utf8'))
    .flatMap((log) => log.split(/^={18}$/m))
    .filter(isOurs);
  for (const race of races) console.error(race);
  console.error(`ThreadSanitizer: ${races.length} reports that involve the addon`);
  return races.length;
}

main(() => {
  const home = path.join(root, '.cmake', kind.replace(',', '-'));
  const binary = path.join(home, 'build', 'Release', 'longspan.node');
  buildNative({ binary, env: { ...process.env, LONGSPAN_SANITIZE: kind } });
  const jest = path.join(path.dirname(require.resolve('jest/package.json')), 'bin', 'jest.js');
  const reports = path.join(home, 'reports');
  rmSync(reports, { recursive: true, force: true });
  mkdirSync(reports, { recursive: true });
  const run = spawnSync(process.execPath, [jest, '--runInBand', ...jestArguments], {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      LONGSPAN_PREBUILD: home, // where node-gyp-build looks instead of the package
      LD_PRELOAD: runtimeLibrary(),
      // Node itself leaks at exit by design; leaks of the addon are tested by its own counters.
      // A test asks for more memory than there is.
      ASAN_OPTIONS: `detect_leaks=0:allocator_may_return_null=1:${process.env.ASAN_OPTIONS ?? ''}`,
      UBSAN_OPTIONS: `print_stacktrace=1:halt_on_error=1:${process.env.UBSAN_OPTIONS ?? ''}`,
      TSAN_OPTIONS: `exitcode=0:log_path=${reports}/thread:${process.env.TSAN_OPTIONS ?? ''}`,
    },
  });
  const races = kind === 'thread' ? racesOfTheAddon(reports) : 0;
  process.exitCode = run.status === 0 && races === 0 ? 0 : 1;
});
