import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { root as packageRoot } from '../root.js';

/** A folder like an installed package, and a PATH with nothing on it but what a test puts there. */
let root: string;
let bin: string;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'longspan-install-'));
  bin = path.join(root, 'bin');
  mkdirSync(bin);
  for (const name of ['package.json', 'CMakeLists.txt', 'scripts']) {
    cpSync(path.join(packageRoot, name), path.join(root, name), { recursive: true });
  }
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function withPackages(...names: string[]): void {
  mkdirSync(path.join(root, 'node_modules'));
  for (const name of names) {
    const target = path.join(packageRoot, 'node_modules', name);
    symlinkSync(target, path.join(root, 'node_modules', name));
  }
}
const withBuildPackages = () => withPackages('node-gyp-build', 'cmake-js', 'node-addon-api');

/** A program that answers like another version of a tool. */
function fake(name: string, answer: string): void {
  const file = path.join(bin, name);
  writeFileSync(file, `#!/bin/sh\n/bin/cat <<'END'\n${answer}\nEND\n`);
  chmodSync(file, 0o755);
}
const gcc = (major: number) => fake('g++', `#define __GNUC__ ${major}`);
const cmake = (version: string) => fake('cmake', `cmake version ${version}`);
const make = () => fake('make', 'GNU Make 4.3');

function prebuild(content?: string): void {
  const folder = path.join(root, 'prebuilds', `${process.platform}-${process.arch}`);
  const file = path.join(folder, 'longspan.glibc.node');
  mkdirSync(folder, { recursive: true });
  if (content === undefined) {
    copyFileSync(path.join(packageRoot, 'build', 'Release', 'longspan.node'), file);
  } else {
    writeFileSync(file, content);
  }
}

function install(env: Record<string, string> = {}, folder = root) {
  const run = spawnSync(process.execPath, ['scripts/install.mjs'], {
    cwd: folder,
    encoding: 'utf8',
    env: { PATH: bin, ...env },
  });
  return { status: run.status, stderr: run.stderr, lines: run.stderr.trimEnd().split('\n').length };
}

describe('the install script with a prebuilt binary', () => {
  test('needs no compiler and says nothing', () => {
    withPackages('node-gyp-build');
    prebuild();
    expect(install()).toMatchObject({ status: 0, stderr: '' });
  });

  test('asks for the build packages when the binary does not load', () => {
    withPackages('node-gyp-build');
    prebuild('not a shared object, but long enough to have an ELF header in it');
    const run = install();
    expect(run).toMatchObject({ status: 1, lines: 1 });
    expect(run.stderr).toMatch(/no prebuilt binary fits \(.*invalid ELF header\)/);
    expect(run.stderr).toMatch(/npm install --save-dev cmake-js node-addon-api/);
  });
});

describe('the install script without a prebuilt binary', () => {
  test('asks a consumer for the build packages', () => {
    withPackages('node-gyp-build');
    const run = install();
    expect(run).toMatchObject({ status: 1, lines: 1 });
    expect(run.stderr).toMatch(/No native build was found for .*cmake-js and node-addon-api/);
  });

  test('asks for the development packages in a checkout', () => {
    withPackages('node-gyp-build');
    writeFileSync(path.join(root, 'tsconfig.json'), '{}');
    const run = install();
    expect(run).toMatchObject({ status: 1, lines: 1 });
    expect(run.stderr).toMatch(/cmake-js.*npm ci --include=dev/);
  });

  test.each([
    [
      'the compiler',
      () => [cmake('3.25.1'), make()],
      /C\+\+20 compiler.* not found/,
      'build-essential',
    ],
    ['CMake', () => [gcc(12), make()], /CMake >= 3\.22 was not found/, 'cmake'],
    [
      'make and ninja',
      () => [gcc(12), cmake('3.25.1')],
      /neither make nor ninja/,
      'build-essential',
    ],
    [
      'a compiler that is new enough',
      () => [gcc(10), cmake('3.25.1'), make()],
      /g\+\+ \(gcc 10\) is too old/,
      'g\\+\\+-12',
    ],
    [
      'a CMake that is new enough',
      () => [gcc(12), cmake('3.18.4'), make()],
      /CMake 3\.18 is too old/,
      'cmake',
    ],
    [
      'a C++20 standard library',
      () => [fake('g++', ''), cmake('3.25.1'), make()],
      /g\+\+ \(cannot compile C\+\+20\)/,
      'g\\+\\+-12',
    ],
    ['everything', () => [], /compiler.*; CMake.*; neither/, 'build-essential cmake'],
  ])('names %s in one line, with the command that installs it', (_, tools, problem, packages) => {
    withBuildPackages();
    tools();
    const run = install();
    expect(run).toMatchObject({ status: 1, lines: 1 });
    expect(run.stderr).toMatch(problem);
    expect(run.stderr).toMatch(new RegExp(`run: (sudo )?apt-get install -y ${packages}\n$`));
  });

  test('takes a newer compiler that stands beside an old default', () => {
    withBuildPackages();
    gcc(10);
    fake('clang++-15', '#define __GNUC__ 4\n#define __clang_major__ 15');
    expect(install().stderr).not.toMatch(/too old|compiler/);
  });

  test('uses the compiler that CXX names, and no other', () => {
    withBuildPackages();
    gcc(12);
    expect(install({ CXX: 'missing-c++' }).stderr).toMatch(/C\+\+20 compiler.* not found/);
  });
});

describe('build options', () => {
  const build = (env: Record<string, string>) => {
    withBuildPackages();
    return install({ PATH: process.env.PATH ?? '', ...env });
  };

  describe.each(['on', 'ON'])('LONGSPAN_CUDA=%s', (mode) => {
    // CUDA_HOME is asked before any other place.
    const withToolkit = (release: string) => {
      fake('nvcc', `Cuda compilation tools, release ${release}, V${release}.1`);
      return build({ LONGSPAN_CUDA: mode, CUDA_HOME: root });
    };

    test('names the toolkit that is too old in one line', () => {
      const run = withToolkit('12.4');
      expect(run).toMatchObject({ status: 1, lines: 1 });
      expect(run.stderr).toMatch(/LONGSPAN_CUDA=on .*version 12\.4, at least 12\.8 .*CUDA_HOME/);
    });

    test('names the parts that a toolkit lacks', () => {
      const run = withToolkit('13.0');
      expect(run).toMatchObject({ status: 1, lines: 1 });
      expect(run.stderr).toMatch(/LONGSPAN_CUDA=on .*lacks cuda_runtime\.h or libcudart_static\.a/);
    });
  });

  test.each([
    [{ LONGSPAN_CUDA: 'maybe' }, /LONGSPAN_CUDA=maybe is unknown\. Use auto, on, off or emulated/],
    [{ LONGSPAN_SANITIZE: 'memory' }, /LONGSPAN_SANITIZE=memory is unknown/],
    [{ LONGSPAN_UNITY: 'maybe' }, /LONGSPAN_UNITY=maybe is unknown\. Use auto, on or off/],
    [{ LONGSPAN_JOBS: '0' }, /LONGSPAN_JOBS=0 is not a positive whole number/],
    [{ LONGSPAN_JOBS: 'all' }, /LONGSPAN_JOBS=all is not a positive whole number/],
  ])('%j is refused in one line', (env, problem) => {
    const run = build(env);
    expect(run.stderr).toMatch(problem);
    expect(run).toMatchObject({ status: 1, lines: 1 });
  });
});

test('in a checkout with a fresh binary the install script needs no tool', () => {
  // The options of this test run are those its binary was built with.
  const options = Object.entries(process.env).filter(([name]) => name.startsWith('LONGSPAN_'));
  const run = install(Object.fromEntries(options) as Record<string, string>, packageRoot);
  expect(run).toMatchObject({ status: 0, stderr: '' });
});

describe("CMake's tree of an earlier build", () => {
  const survives = (cached: { generator?: string; home?: string; cxx: string }): boolean => {
    const tree = path.join(root, 'tree');
    rmSync(tree, { recursive: true, force: true });
    mkdirSync(tree);
    writeFileSync(
      path.join(tree, 'CMakeCache.txt'),
      `CMAKE_CXX_COMPILER:STRING=${cached.cxx}\n` +
        `CMAKE_GENERATOR:INTERNAL=${cached.generator ?? 'Ninja'}\n` +
        `CMAKE_HOME_DIRECTORY:INTERNAL=${cached.home ?? root}\n`,
    );
    const code =
      "import { dropForeignTree } from './scripts/support/native-build.mjs';" +
      `dropForeignTree(${JSON.stringify(tree)}, { generator: 'Ninja', cxx: 'g++' });`;
    const args = ['--input-type=module', '-e', code];
    expect(spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' }).stderr).toBe('');
    return existsSync(tree);
  };

  test('is used again, whichever way CMake wrote the compiler down', () => {
    fake('g++', '');
    expect(survives({ cxx: path.join(bin, 'g++') })).toBe(true);
    expect(survives({ cxx: 'g++' })).toBe(true);
  });

  test('is removed when compiler, generator or folder are others', () => {
    expect(survives({ cxx: 'clang++' })).toBe(false);
    expect(survives({ cxx: path.join(bin, 'gone', 'g++') })).toBe(false);
    expect(survives({ cxx: 'g++', generator: 'Unix Makefiles' })).toBe(false);
    expect(survives({ cxx: 'g++', home: path.join(root, 'elsewhere') })).toBe(false);
  });
});
