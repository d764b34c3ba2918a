// Tests this tree on a real GPU and times it: `node scripts/gpu-host.mjs [OPTION...]`, where Node.js is
// missing `bash scripts/gpu-host.sh [OPTION...]`. Steps, in this order:
//   device      what the machine is
//   tests       the jest suite on `cuda`
//   kernels     programs that run the kernels over ragged shapes
//   sanitizer   the same under compute-sanitizer, where it is installed
//   bench       npm run bench on `cuda`
//   peers       PyTorch's matmul and attention, where it is installed with a GPU
// Results go to a folder as files of their own and, in short, as summary.json.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const STEPS = ['device', 'tests', 'kernels', 'sanitizer', 'peers', 'bench'];
const ON_CPU = ['device', 'tests'];
const USAGE = `usage: gpu-host [OPTION...]
  --cpu-only         without a GPU: the tests that need none, on the bundle's addon
  --steps A,B        of ${STEPS.join(', ')}; default all
  --tests PATTERN    only test files whose path matches
  --bench A,B        only benchmark files whose name contains A or B
  --quick            fewer rounds in benches
  --minutes M        stop starting steps, and end the one that runs, after M minutes
  --out FOLDER       for results; default build/gpu-results`;

const { values: options } = parseArgs({
  options: {
    'cpu-only': { type: 'boolean', default: false },
    steps: { type: 'string' },
    tests: { type: 'string' },
    bench: { type: 'string', default: '' },
    quick: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '600' },
    out: { type: 'string', default: path.join(root, 'build', 'gpu-results') },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const out = path.resolve(options.out);
const deadline = Date.now() + Number(options.minutes) * 60_000;
const bundled = path.join(root, 'build', 'gpu', 'addon');
const env = { ...process.env };
env.LONGSPAN_PREBUILD ??= existsSync(bundled) ? bundled : root;

function run(command, args, extra = {}) {
  const timeout = Math.max(1, deadline - Date.now());
  return spawnSync(command, args, { cwd: root, env, timeout, ...extra });
}
const shown = { stdio: 'inherit' };
const node = (...args) => run(process.execPath, args, shown);

/** The first of the programs that runs, or undefined. */
function found(...programs) {
  return programs.find((program) => run(program, ['--version']).status === 0);
}

/** The state of the addon and of CUDA, as `longspan doctor` tells it. */
function doctor() {
  const result = run(process.execPath, ['dist/cli/main.js', 'doctor', '--json']);
  if (result.error || result.status !== 0) {
    const why = result.error?.message ?? `${result.stdout}${result.stderr}`.trim();
    return { addon: { loaded: false, error: why }, cuda: { usable: false } };
  }
  return JSON.parse(result.stdout);
}

function kernelPrograms() {
  const folder = path.join(root, 'build', 'gpu', 'kernels');
  return existsSync(folder) ? readdirSync(folder).map((name) => path.join(folder, name)) : [];
}

const measured = new Set(); // steps that passed
const skipped = (why) => ({ status: 'skipped', why });
const outcome = (results) => {
  const bad = results.filter(({ status }) => status !== 0);
  if (bad.length === 0) return { status: 'passed' };
  return { status: bad.some(({ error }) => error?.code === 'ETIMEDOUT') ? 'cut off' : 'failed' };
};

const steps = {
  device() {
    node('dist/cli/main.js', 'doctor');
    if (options['cpu-only']) return { status: 'passed' };
    run('nvidia-smi', [], shown);
    return { status: 'passed' };
  },
  tests() {
    // Left out: what tests the package as it is built and installed, and what runs the emulator.
    const folders = ['cli', 'cuda', 'docs', 'package'].map((name) => `/test/${name}/`);
    const args = ['--selectProjects', 'emulated', '--testPathIgnorePatterns', ...folders];
    const report = ['--json', '--outputFile', path.join(out, 'tests.json')];
    const only = options.tests ? ['--testPathPatterns', options.tests] : [];
    return outcome([node('node_modules/jest/bin/jest.js', ...args, ...report, ...only)]);
  },
  kernels() {
    const programs = kernelPrograms();
    if (programs.length === 0) return skipped('they come with the bundle');
    return outcome(programs.map((program) => run(program, [], shown)));
  },
  sanitizer() {
    const home = env.CUDA_HOME ?? env.CUDA_PATH ?? '/usr/local/cuda';
    const sanitizer = found('compute-sanitizer', path.join(home, 'bin', 'compute-sanitizer'));
    const programs = kernelPrograms();
    if (!sanitizer) return skipped('compute-sanitizer is not installed');
    if (programs.length === 0) return skipped('the programs come with the bundle');
    const tools = ['memcheck', 'racecheck', 'synccheck', 'initcheck'];
    return outcome(
      tools.flatMap((tool) =>
        programs.map((program) => {
          console.log(`-- ${tool} ${path.basename(program)}`);
          const log = path.join(out, `${tool}-${path.basename(program)}.txt`);
          return run(
            sanitizer,
            ['--tool', tool, '--error-exitcode', '9', '--log-file', log, program],
            shown,
          );
        }),
      ),
    );
  },
  bench() {
    const names = options.bench.split(',').filter(Boolean);
    const quick = options.quick ? ['--quick'] : [];
    const file = path.join(out, 'bench.json');
    const others = path.join(out, 'peers.json'); // of this run: the step before
    const peers = measured.has('peers') && existsSync(others) ? ['--peer-rows', others] : [];
    const args = [...names, '--device', 'cuda', ...quick, ...peers, '--out', file];
    return outcome([node('.test-build/bench/main.js', ...args)]);
  },
  peers() {
    const python = found('python3', 'python');
    if (!python) return skipped('Python is not installed');
    const has = run(python, ['-c', 'import torch; assert torch.cuda.is_available()']);
    if (has.status !== 0) return skipped('PyTorch with a GPU is not installed');
    const quick = options.quick ? ['--quick'] : [];
    const file = path.join(out, 'peers.json');
    return outcome([run(python, ['bench/peers/torch_gpu.py', '--out', file, ...quick], shown)]);
  },
};

function main() {
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const wanted = options.steps?.split(',') ?? (options['cpu-only'] ? ON_CPU : STEPS);
  const unknown = wanted.find((name) => !STEPS.includes(name));
  if (unknown) throw new Error(`there is no step '${unknown}'\n${USAGE}`);
  if (!(Number(options.minutes) > 0)) throw new Error(`--minutes is '${options.minutes}'`);

  const { addon, cuda } = doctor();
  if (!addon.loaded) throw new Error(`the addon cannot be loaded: ${addon.error}`);
  if (!cuda.usable && !options['cpu-only']) {
    throw new Error(
      `there is no GPU to test on: ${cuda.missing}\n--cpu-only runs the tests that need none`,
    );
  }
  if (options['cpu-only']) env.CUDA_VISIBLE_DEVICES = '';

  mkdirSync(out, { recursive: true });
  const summary = [];
  for (const name of STEPS.filter((step) => wanted.includes(step))) {
    console.log(`\n==== ${name}`);
    const start = Date.now();
    const result = start < deadline ? steps[name]() : skipped('no time is left');
    if (result.status === 'passed') measured.add(name);
    const seconds = Math.round((Date.now() - start) / 1000);
    summary.push({ step: name, ...result, seconds });
    writeFileSync(path.join(out, 'summary.json'), `${JSON.stringify(summary, null, 1)}\n`);
  }
  console.log('\n==== summary');
  for (const { step, status, why, seconds } of summary) {
    console.log(`${step.padEnd(10)} ${status}${why ? `: ${why}` : ''}, ${seconds} s`);
  }
  console.log(`results in ${path.relative(process.cwd(), out) || '.'}`);
  return summary.every(({ status }) => status === 'passed' || status === 'skipped') ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(`gpu-host: ${error.message}`);
  process.exitCode = 2;
}
