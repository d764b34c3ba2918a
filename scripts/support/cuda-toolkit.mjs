// Finds nvcc, and decides whether the CUDA backend is built and for which GPUs. CMake is given the
// outcome, so that a binary's stamp tells a build with GPU code from one without.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { BuildProblem, findCompiler } from './toolchain.mjs';

const MIN_TOOLKIT = [12, 8]; // the first that knows sm_100 and sm_120
const MIN_CAPABILITY = 80;
/** Without a GPU to build for: what data centres have most, and the same kernels for each. */
export const DEFAULT_ARCHITECTURES = ['80', '90a'];
export const RELEASE_ARCHITECTURES = ['80', '86', '89', '90', '90a', '100', '120', '120-virtual'];

function run(command, args, options) {
  return spawnSync(command, args, { encoding: 'utf8', ...options });
}

/** The nvcc to use, where it lies and its release, or undefined. Old ones are found too. */
export function findToolkit(env = process.env) {
  const homes = [env.CUDA_HOME, env.CUDA_PATH];
  const inHome = (home) => path.join(home, 'bin', 'nvcc');
  const candidates = [
    ...homes.filter(Boolean).map(inHome),
    'nvcc',
    ...['/usr/local/cuda', '/opt/cuda'].map(inHome),
  ];
  for (const nvcc of candidates) {
    const version = run(nvcc, ['--version'], { env });
    const release = version.status === 0 && /release (\d+)\.(\d+)/.exec(version.stdout);
    if (!release) continue;
    // nvcc may be a script that calls another one: what it would run says where the toolkit is.
    const plan = run(nvcc, ['--dryrun', '-c', '-x', 'cu', '/dev/null'], { env }).stderr ?? '';
    const paths = (name, flag) => {
      const line = new RegExp(`^#\\$ ${name}=(.*)$`, 'm').exec(plan)?.[1] ?? '';
      return [...line.matchAll(new RegExp(`${flag}([^"\\s]+)`, 'g'))].map((m) => m[1]);
    };
    const packaged = nvcc === 'nvcc'; // perhaps the distribution's, whose files lie elsewhere
    const bin = /^#\$ _HERE_=(.*)$/m.exec(plan)?.[1] ?? path.dirname(nvcc);
    return {
      nvcc: having([bin], 'nvcc') ? path.join(bin, 'nvcc') : nvcc,
      bin,
      release: [Number(release[1]), Number(release[2])],
      version: `${release[1]}.${release[2]}`,
      include: [...paths('INCLUDES', '-I'), ...(packaged ? ['/usr/include'] : [])],
      libraries: [
        ...paths('LIBRARIES', '-L'),
        ...(packaged ? ['/usr/lib/x86_64-linux-gnu', '/usr/lib64'] : []),
      ],
    };
  }
  return undefined;
}

const having = (folders, file) => folders.find((folder) => existsSync(path.join(folder, file)));

/** What keeps this toolkit from compiling the backend with that C++ compiler, or undefined. */
function toolkitProblem(toolkit, cxx) {
  const [major, minor] = toolkit.release;
  const needed = MIN_TOOLKIT.join('.');
  if (major < MIN_TOOLKIT[0] || (major === MIN_TOOLKIT[0] && minor < MIN_TOOLKIT[1])) {
    return `the CUDA toolkit is version ${toolkit.version}, at least ${needed} is needed`;
  }
  const include = having(toolkit.include, 'cuda_runtime.h');
  if (!include || !having(toolkit.libraries, 'libcudart_static.a')) {
    return 'the CUDA toolkit lacks cuda_runtime.h or libcudart_static.a';
  }
  // The toolkit's own judgement of the host compiler.
  const judge = path.join(include, 'crt', 'host_config.h');
  const flags = ['-E', '-x', 'c++', '-w', '-D__CUDACC__', '-I', include, '-o', '/dev/null'];
  if (cxx && existsSync(judge)) {
    const refusal = /#error -- (unsupported[^!]*)!/.exec(run(cxx, [...flags, judge]).stderr);
    if (refusal) return `nvcc ${toolkit.version} says of ${cxx}: ${refusal[1]}`;
  }
  return undefined;
}

/** True where a program could use a GPU: the driver is loaded or its library is installed. */
function hasDriver() {
  if (existsSync('/dev/nvidiactl') || existsSync('/dev/dxg')) return true;
  const listed = run('ldconfig', ['-p'], {
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  return /libcuda\.so\.1\b/.test(listed.stdout ?? '');
}

/** The architectures of this machine's GPUs that the backend supports: '80', '90a', ... */
function presentArchitectures(toolkit) {
  const smi = run('nvidia-smi', ['--query-gpu=compute_cap', '--format=csv,noheader']);
  const query = path.join(toolkit.bin, '__nvcc_device_query');
  const text = smi.status === 0 ? smi.stdout.replaceAll('.', '') : (run(query, []).stdout ?? '');
  const found = [...text.matchAll(/\b(\d{2,3})\b/g)].map((match) => Number(match[1]));
  const usable = [...new Set(found)].filter((capability) => capability >= MIN_CAPABILITY).sort();
  return {
    any: found.length > 0,
    usable: usable.map((capability) => (capability === 90 ? '90a' : String(capability))),
  };
}

function chosenArchitectures(env, toolkit) {
  const text = (env.LONGSPAN_CUDA_ARCHITECTURES ?? '').toLowerCase();
  if (text === 'release') return RELEASE_ARCHITECTURES;
  if (text === '') {
    const { usable } = presentArchitectures(toolkit);
    return usable.length > 0 ? usable : DEFAULT_ARCHITECTURES;
  }
  const list = text.split(/[,;\s]+/).filter(Boolean);
  const bad = list.find((name) => !/^\d{2,3}[af]?(-virtual)?$/.test(name));
  if (bad || list.some((name) => Number.parseInt(name, 10) < MIN_CAPABILITY)) {
    throw new BuildProblem(
      `LONGSPAN_CUDA_ARCHITECTURES=${text} is not usable. Give 'release' or a list such as ` +
        `80,90a,120-virtual (PTX), each at least ${MIN_CAPABILITY}`,
    );
  }
  return list;
}

function backend(env, toolkit) {
  return {
    LONGSPAN_CUDA: 'on',
    LONGSPAN_NVCC: toolkit.nvcc,
    LONGSPAN_NVCC_VERSION: toolkit.version,
    LONGSPAN_CUDA_INCLUDE: having(toolkit.include, 'cuda_runtime.h'),
    LONGSPAN_CUDART: path.join(
      having(toolkit.libraries, 'libcudart_static.a'),
      'libcudart_static.a',
    ),
    LONGSPAN_CUDA_ARCHITECTURES: chosenArchitectures(env, toolkit).join(','),
  };
}

const INSTALL =
  'Install the CUDA toolkit 12.8 or later (https://developer.nvidia.com/cuda-downloads) and put nvcc ' +
  'on PATH or its folder into CUDA_HOME';

/**
 * The CMake variables that say what becomes of the CUDA backend. `auto` is resolved: on where this
 * machine can both build and use it, else off for a reason that the binary keeps.
 * @throws {BuildProblem} when `on` cannot be built
 */
export function cudaOptions(env = process.env) {
  const mode = (env.LONGSPAN_CUDA || 'auto').toLowerCase();
  if (mode !== 'auto' && mode !== 'on') return { LONGSPAN_CUDA: mode };
  const without = (why) => ({ LONGSPAN_CUDA: 'off', LONGSPAN_CUDA_REASON: why });
  if (mode === 'auto' && !hasDriver()) return without('the building machine has no NVIDIA driver');
  const toolkit = findToolkit(env);
  const problem = toolkit
    ? toolkitProblem(toolkit, findCompiler(env))
    : 'no CUDA toolkit was found on PATH, in CUDA_HOME or in /usr/local/cuda';
  if (mode === 'on') {
    if (problem) throw new BuildProblem(`LONGSPAN_CUDA=on cannot be built: ${problem}. ${INSTALL}`);
    return backend(env, toolkit);
  }
  if (problem) return without(problem);
  const { any, usable } = presentArchitectures(toolkit);
  if (usable.length > 0) return backend(env, toolkit);
  return without(
    any ? 'no GPU of compute capability 8.0 or later was found' : 'no NVIDIA GPU was found',
  );
}

/** Flags of nvcc for CMake's names of architectures: 90a is code, 120-virtual is PTX. */
export function gencode(architectures) {
  return architectures.flatMap((name) => {
    const number = name.replace('-virtual', '');
    const code = name === number ? `sm_${number}` : `compute_${number}`;
    return ['-gencode', `arch=compute_${number},code=${code}`];
  });
}
