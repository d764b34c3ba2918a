// `npm run check:bare [-- COMMAND...]`: clones the last commit and runs the newcomer's commands
// (default: `npm ci`, `npm test`) as a bare Debian machine would: build-essential and CMake, but no
// Python, CUDA compiler, ninja, clang or compiler cache, and an empty home folder.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { root } from './support/native-build.mjs';
import { toolPath } from './support/tool-path.mjs';

const ABSENT = /^(python[\d.]*|pypy[\d.]*|nvcc|ninja|samu|ccache|clang.*|tsc|jest)$/;
const given = process.argv.slice(2);
const commands = given.length > 0 ? given : ['npm ci', 'npm test'];

const work = mkdtempSync(path.join(tmpdir(), 'longspan-bare-'));
const home = path.join(work, 'home');
mkdirSync(home);
// Build settings of this shell would not be there on another machine.
const kept = Object.entries(process.env).filter(
  ([name]) => !/^(npm_|LONGSPAN_|CMAKE_|CCACHE_|CXX|CC$|CUDA)/i.test(name),
);
const env = {
  ...Object.fromEntries(kept),
  HOME: home,
  PATH: toolPath(path.join(work, 'bin'), (name) => !ABSENT.test(name)),
};

function run(command, cwd) {
  const start = Date.now();
  const status = spawnSync(command, { cwd, env, shell: true, stdio: 'inherit' }).status;
  console.log(`[${command}] ${((Date.now() - start) / 1000).toFixed(1)} s`);
  if (status !== 0) throw new Error(`'${command}' failed on a bare machine`);
}

try {
  run(`git clone --quiet "${root}" repo`, work);
  for (const command of commands) run(command, path.join(work, 'repo'));
} finally {
  rmSync(work, { recursive: true, force: true });
}
