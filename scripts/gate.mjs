// The compile gate: `npm run gate [-- FILTER...]`. Builds every .cu file with nvcc for sm_80 and sm_90a,
// reads what ptxas says of each kernel, writes the register table to bench/results/registers.json, and
// fails on spills, on the messages that mean serialised wgmma (C7505, C7508, C7510 to C7519), and on
// more kernels than a build in minutes can have. Kernels whose body an architecture leaves out do not
// count there and are not in the table. With --release the same for the other architectures of a
// release, whose table is registers-release.json beside it, and where a few bytes may be spilled.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  DEFAULT_ARCHITECTURES,
  findToolkit,
  gencode,
  RELEASE_ARCHITECTURES,
} from './support/cuda-toolkit.mjs';
import { main, root } from './support/native-build.mjs';
import { BuildProblem } from './support/toolchain.mjs';

const options = parseArgs({ allowPositionals: true, options: { release: { type: 'boolean' } } });
const { release } = options.values;
// PTX is read by ptxas too: as the code of the same number.
const others = RELEASE_ARCHITECTURES.filter(
  (name) => !name.endsWith('-virtual') && !DEFAULT_ARCHITECTURES.includes(name),
);
const TARGETS = release ? others : DEFAULT_ARCHITECTURES;
const BUDGET = 250; // kernels per target
// Bytes that a kernel may spill: for sm_120 matmul in f32 does, and forward attention at 128
// dimensions there and for sm_100.
const MOST_SPILLED = release ? 160 : 0;
const EMPTY = 4; // registers of a kernel without a body: none has fewer, no other so few
const SERIALISED = /C75(?:05|08|1\d)/;
const table = path.join(
  root,
  'bench/results',
  release ? 'registers-release.json' : 'registers.json',
);

function nvcc(toolkit, file) {
  const args = ['-std=c++20', '-O3', '-I.', '-diag-suppress=2810', ...gencode(TARGETS)];
  return new Promise((done, fail) => {
    const child = spawn(
      toolkit.nvcc,
      // Not -fatbin, which takes the host's half unread.
      [...args, '-Xptxas', '-v', '-c', '-o', '/dev/null', path.join('cuda', file)],
      { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (text += data));
    child.on('error', fail);
    child.on('close', (status) => done({ status, text }));
  });
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
  return kernels.filter((kernel) => kernel.registers > EMPTY);
}

function sources(filters) {
  return readdirSync(path.join(root, 'cuda'), { recursive: true })
    .filter((file) => file.endsWith('.cu') && !/(^|\/)(tests|emulator)\//.test(file))
    .filter((file) => filters.length === 0 || filters.some((f) => file.includes(f)))
    .sort();
}

/** Compiles one file; what the table says of it, and what is wrong with it. */
async function examine(toolkit, file) {
  const { status, text } = await nvcc(toolkit, file);
  if (status !== 0) return { kernels: [], problems: [`${file} does not compile:\n${text}`] };
  const kernels = parse(text);
  const serialised = text.split('\n').filter((line) => SERIALISED.test(line));
  const spilling = kernels.filter((kernel) => kernel.spills > MOST_SPILLED);
  for (const target of TARGETS) {
    const own = kernels.filter((kernel) => kernel.target === target);
    const most = Math.max(0, ...own.map((kernel) => kernel.registers));
    const spilled = own.reduce((sum, kernel) => sum + kernel.spills, 0);
    const spills = spilled > 0 ? `, ${spilled} bytes spilled` : '';
    console.log(`${file}  sm_${target}  ${own.length} kernels, at most ${most} registers${spills}`);
  }
  return {
    kernels,
    problems: [
      ...serialised.map((line) => `${file}: ${line.trim()}`),
      ...spilling.map((k) => `${file}, sm_${k.target}: ${k.spills} bytes spilled by ${k.name}`),
    ],
  };
}

async function gate(filters) {
  const toolkit = findToolkit();
  if (!toolkit) {
    throw new BuildProblem(
      'the gate needs nvcc, which is neither on PATH nor in CUDA_HOME. Install the CUDA toolkit 12.8 or later',
    );
  }
  const known = existsSync(table) ? JSON.parse(readFileSync(table, 'utf8')).files : {};
  const list = sources(filters);
  const results = new Map();
  const queue = [...list];
  const worker = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      results.set(file, await examine(toolkit, file));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  const files = filters.length > 0 ? known : {};
  for (const file of list) files[file] = results.get(file).kernels;
  mkdirSync(path.dirname(table), { recursive: true });
  writeFileSync(table, `${JSON.stringify({ nvcc: toolkit.version, files }, null, 1)}\n`);

  const problems = list.flatMap((file) => results.get(file).problems);
  for (const target of TARGETS) {
    const all = Object.values(files).flat();
    const count = all.filter((kernel) => kernel.target === target).length;
    console.log(`sm_${target}: ${count} kernels of at most ${BUDGET}`);
    if (count > BUDGET)
      problems.push(`${count} kernels for sm_${target}, at most ${BUDGET} allowed`);
  }
  if (problems.length > 0) throw new BuildProblem(`the gate is shut:\n${problems.join('\n')}`);
}

gate(options.positionals).catch((error) => {
  main(() => {
    throw error;
  });
});
