// `node scripts/check-symbols.mjs [FILE...]`: a release binary must load on every system that the
// README promises, so it may need no newer glibc and no other library than those named here.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { root } from './support/native-build.mjs';

const MAX_GLIBC = [2, 34]; // Debian 12, Ubuntu 22.04, RHEL 9
const LIBRARIES = /^(libc|libm|libgcc_s|ld-linux-x86-64|ld-linux-aarch64)\.so\.\d+$/;
// Anything else that is exported could clash with another addon in the same process.
const EXPORTS = /^(napi_register_module_v1|node_api_module_get_api_version_v1)$/;

function binutils(tool, ...args) {
  const run = spawnSync(tool, args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  if (run.status !== 0) throw new Error(`${tool} failed: ${run.error?.message ?? run.stderr}`);
  return run.stdout;
}

function problemsOf(file) {
  const header = binutils('objdump', '-p', file);
  const symbols = binutils('nm', '-D', '--defined-only', file);
  const libraries = [...header.matchAll(/NEEDED\s+(\S+)/g)].map((match) => match[1]);
  const versions = [...header.matchAll(/\bGLIBC_(\d+)\.(\d+)/g)].map((match) => [
    Number(match[1]),
    Number(match[2]),
  ]);
  const newest = versions.sort((a, b) => a[0] - b[0] || a[1] - b[1]).at(-1) ?? [0, 0];
  const exported = symbols.match(/\S+$/gm) ?? [];

  console.log(`${path.relative(root, file)}: GLIBC_${newest.join('.')}, ${libraries.join(' ')}`);
  const problems = [
    ...libraries.filter((name) => !LIBRARIES.test(name)).map((name) => `needs ${name}`),
    ...exported.filter((name) => !EXPORTS.test(name)).map((name) => `exports ${name}`),
  ];
  if (newest[0] > MAX_GLIBC[0] || (newest[0] === MAX_GLIBC[0] && newest[1] > MAX_GLIBC[1])) {
    problems.push(`needs GLIBC_${newest.join('.')}, at most ${MAX_GLIBC.join('.')} is allowed`);
  }
  return problems.map((problem) => `${path.relative(root, file)} ${problem}`);
}

function prebuilds() {
  const folder = path.join(root, 'prebuilds');
  if (!existsSync(folder))
    throw new Error("there are no prebuilds, run 'npm run prebuildify' first");
  return readdirSync(folder, { recursive: true })
    .filter((name) => /^linux-.*\.node$/.test(name))
    .map((name) => path.join(folder, name));
}

const given = process.argv.slice(2);
const problems = (given.length > 0 ? given.map((file) => path.resolve(file)) : prebuilds()).flatMap(
  problemsOf,
);
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
