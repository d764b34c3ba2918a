// The compile gate: `npm run gate [-- FILTER...]`. Builds every .cu file with nvcc for sm_80 and sm_90a,
// reads what ptxas says of each kernel, writes the register table to bench/results/registers.json, and
// fails on spills and on the messages that mean serialised wgmma (C7505, C7508, C7510 to C7519).
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { main, root } from './support/native-build.mjs';
import { BuildProblem } from './support/toolchain.mjs';

const TARGETS = ['80', '90a'];
const SERIALISED = /C75(?:05|08|1\d)/;
const table = path.join(root, 'bench', 'results', 'registers.json');

function findNvcc() {
  const home = process.env.CUDA_HOME ?? process.env.CUDA_PATH ?? '/usr/local/cuda';
  for (const nvcc of ['nvcc', path.join(home, 'bin', 'nvcc')]) {
    const version = spawnSync(nvcc, ['--version'], { encoding: 'utf8' });
    if (version.status === 0)
      return { nvcc, version: /release ([\d.]+)/.exec(version.stdout)?.[1] };
  }
  throw new BuildProblem(
    'the gate needs nvcc, which is neither on PATH nor in CUDA_HOME. Install the CUDA toolkit 12.8 or later',
  );
}

/** Kernels of one file and target, as ptxas describes them, by demangled name. */
function parse(text) {
  const kernels = [];
  let current;
  for (const line of text.split('\n')) {
    const entry = /Compiling entry function '(\w+)' for 'sm_(\w+)'/.exec(line);
    if (entry) {
      current = { name: entry[1], target: entry[2] };
      kernels.push(current);
    }
    const stack = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(
      line,
    );
    if (stack && current) {
      current.stack = Number(stack[1]);
      current.spills = Number(stack[2]) + Number(stack[3]);
    }
    const used = /Used (\d+) registers(?:.*?(\d+) bytes smem)?/.exec(line);
    if (used && current) current.registers = Number(used[1]);
  }
  const names = spawnSync('c++filt', ['-p'], {
    input: kernels.map((k) => k.name).join('\n'),
    encoding: 'utf8',
  });
  const demangled = names.status === 0 ? names.stdout.split('\n') : [];
  kernels.forEach((k, i) => {
    k.name = (demangled[i] || k.name).replaceAll('longspan::', '').replaceAll('cuda::', '');
  });
  return kernels;
}

function sources(filters) {
  return readdirSync(path.join(root, 'cuda'), { recursive: true })
    .filter((file) => file.endsWith('.cu') && !/(^|\/)(tests|emulator)\//.test(file))
    .filter((file) => filters.length === 0 || filters.some((f) => file.includes(f)))
    .sort();
}

main(() => {
  const filters = process.argv.slice(2);
  const { nvcc, version } = findNvcc();
  const known = existsSync(table) ? JSON.parse(readFileSync(table, 'utf8')).files : {};
  const files = filters.length > 0 ? known : {};
  const problems = [];
  for (const file of sources(filters)) {
    files[file] = [];
    for (const target of TARGETS) {
      const arch = `arch=compute_${target},code=sm_${target}`;
      const args = ['-std=c++20', '-O3', '-I.', '-gencode', arch, '-Xptxas', '-v', '-cubin'];
      const out = ['-o', '/dev/null', path.join('cuda', file)];
      const run = spawnSync(nvcc, [...args, ...out], { cwd: root, encoding: 'utf8' });
      const text = run.stdout + run.stderr;
      if (run.status !== 0) {
        problems.push(`${file} does not compile for sm_${target}:\n${text}`);
        continue;
      }
      for (const line of text.split('\n').filter((l) => SERIALISED.test(l))) {
        problems.push(`${file}, sm_${target}: ${line.trim()}`);
      }
      const kernels = parse(text);
      for (const k of kernels.filter((kernel) => kernel.spills > 0)) {
        problems.push(`${file}, sm_${target}: ${k.spills} bytes spilled by ${k.name}`);
      }
      files[file].push(...kernels);
      const most = Math.max(0, ...kernels.map((k) => k.registers));
      console.log(`${file}  sm_${target}  ${kernels.length} kernels, at most ${most} registers`);
    }
  }
  mkdirSync(path.dirname(table), { recursive: true });
  writeFileSync(table, `${JSON.stringify({ nvcc: version, files }, null, 1)}\n`);
  const count = Object.values(files).flat().length;
  console.log(`${count} kernels in ${path.relative(root, table)}`);
  if (problems.length > 0) throw new BuildProblem(`the gate is shut:\n${problems.join('\n')}`);
});
