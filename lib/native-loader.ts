/**
 * Finds and loads the addon. What can go wrong depends on the machine (no binary for the platform,
 * an older glibc, musl, a file copied from elsewhere), so each failure gets the cure for its machine.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import nodeGypBuild from 'node-gyp-build';
import { NativeLoadError } from './core/errors';

/** Platforms that prebuilt binaries are published for. */
const PREBUILT = ['linux-x64', 'linux-arm64'];

/** What a diagnosis looks at; tests pass other machines than their own. */
export interface Machine {
  /** `process.platform` and `process.arch`, for example `linux-x64`. */
  target: string;
  /** Version of the running glibc, undefined on musl and outside Linux. */
  glibc: string | undefined;
  /** True in a clone of the repository, where the sources can be built. */
  checkout: boolean;
}

function thisMachine(root: string): Machine {
  const report = process.report.getReport() as unknown as {
    header: { glibcVersionRuntime?: string };
  };
  return {
    target: `${process.platform}-${process.arch}`,
    glibc: report.header.glibcVersionRuntime,
    checkout: existsSync(path.join(root, 'tsconfig.json')),
  };
}

const BUILD_TOOLS = 'apt-get install -y build-essential cmake';

/** How to get a binary that is made for this machine. */
function rebuild(machine: Machine): string {
  return machine.checkout
    ? `Run 'npm run build:native' (it needs: ${BUILD_TOOLS})`
    : `To build it from source run '${BUILD_TOOLS}' and then ` +
        "'npm install --save-dev cmake-js node-addon-api && " +
        "LONGSPAN_BUILD_FROM_SOURCE=1 npm rebuild longspan'";
}

/** No file was found for this platform. */
function missing(machine: Machine): string {
  if (!machine.target.startsWith('linux-')) {
    return `longspan runs on Linux (x64 and arm64), this is ${machine.target}. Use a Linux machine, a container or WSL 2`;
  }
  if (machine.glibc === undefined) {
    return 'This system has musl instead of glibc and there is no prebuilt binary for it. Use an image with glibc, for example node:22-bookworm-slim';
  }
  if (!machine.checkout && PREBUILT.includes(machine.target)) {
    return `The prebuilt binary for ${machine.target} is not in the package: it was installed incompletely or copied from another platform. Remove node_modules/longspan and run 'npm install' on this machine. ${rebuild(machine)}`;
  }
  return rebuild(machine);
}

/** A file was found and the dynamic linker refused it. */
function unloadable(message: string, machine: Machine): string {
  const wanted = /version `GLIBC_([\d.]+)' not found/.exec(message)?.[1];
  if (wanted) {
    return `The binary needs glibc ${wanted}, this system has ${machine.glibc ?? 'another C library'}. Use Debian 12, Ubuntu 22.04, RHEL 9 or later. ${rebuild(machine)}`;
  }
  if (machine.target.startsWith('linux-') && machine.glibc === undefined) {
    return 'The binary was made for glibc and this system has musl. Use an image with glibc, for example node:22-bookworm-slim';
  }
  if (/invalid ELF header|wrong ELF class|file too short|cannot open shared object/.test(message)) {
    return `The file is damaged or made for another platform than ${machine.target}. Remove node_modules and run 'npm ci' on this machine. ${rebuild(machine)}`;
  }
  return rebuild(machine);
}

// Not by `instanceof`: under Jest the linker's error comes from another realm.
function firstLine(error: unknown): string {
  const { message } = error as { message?: unknown };
  return String(message ?? error).split('\n')[0];
}

/**
 * The error for an addon that could not be loaded.
 * @param file the file that was found, undefined when there was none
 */
export function nativeLoadError(
  root: string,
  file: string | undefined,
  cause: unknown,
  machine: Machine = thisMachine(root),
): NativeLoadError {
  if (file !== undefined) {
    const reason = firstLine(cause);
    return new NativeLoadError(`cannot load the native addon ${file}: ${reason}`, {
      remedy: unloadable(reason, machine),
      cause,
    });
  }
  const places = [
    path.join(root, 'build', 'Release'),
    path.join(root, 'prebuilds', machine.target),
  ].join(' and ');
  return new NativeLoadError(`there is no native addon for ${machine.target} in ${places}`, {
    remedy: missing(machine),
    cause,
  });
}

/** Settings that native code reads when it is loaded: what they may be, and how that is said. */
const SETTINGS: readonly (readonly [name: string, valid: RegExp, remedy: string])[] = [
  [
    'LONGSPAN_NUM_THREADS',
    /^(?:[1-9]\d{0,2}|10[01]\d|102[0-4])$/,
    'Use a whole number from 1 to 1024',
  ],
  ['LONGSPAN_CPU_LEVEL', /^(?:portable|v3|v4)$/, 'Use portable, v3 or v4'],
  ['LONGSPAN_CUBLASLT', /^(?:off|auto|on)$/, 'Use off, auto or on'],
];

/**
 * Refuses settings that would be ignored. An empty one is none.
 *
 * @throws {NativeLoadError} that names the setting and what it may be
 */
export function checkSettings(env: NodeJS.ProcessEnv): void {
  for (const [name, valid, remedy] of SETTINGS) {
    const value = env[name];
    if (!value || valid.test(value)) continue;
    const details = { argument: name, value, remedy };
    throw new NativeLoadError(`the environment variable ${name} is '${value}'`, details);
  }
}

/**
 * Loads the addon: a binary built from source (`build/Release`) if there is one, else the prebuilt
 * binary for this platform.
 * @param root folder of the package
 * @throws {NativeLoadError} with the places that were searched, the linker's words and the cure; for a
 *   setting that does not exist
 */
export function loadAddon(root = path.join(__dirname, '..')): unknown {
  checkSettings(process.env);
  let file: string | undefined;
  try {
    file = nodeGypBuild.resolve(root);
    return require(file);
  } catch (error) {
    throw nativeLoadError(root, file, error);
  }
}
