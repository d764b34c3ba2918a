import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { checkSettings, loadAddon, type Machine, nativeLoadError } from '#lib/native-loader';
import { root as packageRoot } from '../root.js';

const debian: Machine = { target: 'linux-x64', glibc: '2.36', checkout: false };
const message = (
  cause: string,
  machine: Partial<Machine>,
  file: string | undefined = '/p/a.node',
) => nativeLoadError('/p', file, new Error(cause), { ...debian, ...machine }).message;
const missing = (machine: Partial<Machine>) =>
  nativeLoadError('/p', undefined, new Error('none'), { ...debian, ...machine }).message;

test.each([
  ['LONGSPAN_NUM_THREADS', ['1', '64', '1024', ''], ['0', '-1', '1.5', '1025', 'all', '2 ']],
  ['LONGSPAN_CPU_LEVEL', ['portable', 'v3', 'v4', ''], ['V3', 'avx2']],
  ['LONGSPAN_CUBLASLT', ['off', 'auto', 'on', ''], ['yes', '1', 'On']],
])('%s may be %j and nothing else', (name, good, bad) => {
  for (const value of good) expect(() => checkSettings({ [name]: value })).not.toThrow();
  for (const value of bad) {
    expect(() => checkSettings({ [name]: value })).toThrow(
      expect.objectContaining({ code: 'ERR_NATIVE_LOAD', argument: name, value }),
    );
  }
});

test('a package that is loaded with such a setting refuses it', () => {
  const load = spawnSync(process.execPath, ['-e', "require('longspan')"], {
    cwd: packageRoot,
    encoding: 'utf8',
    env: { ...process.env, LONGSPAN_NUM_THREADS: 'all' },
  });
  expect(load.status).not.toBe(0);
  expect(load.stderr).toMatch(/NativeLoadError: .*LONGSPAN_NUM_THREADS is 'all'.*from 1 to 1024/);
});

describe('nativeLoadError', () => {
  test('keeps code, cause and remedy', () => {
    const cause = new Error('none');
    const error = nativeLoadError('/p', undefined, cause, debian);
    expect(error).toMatchObject({ name: 'NativeLoadError', code: 'ERR_NATIVE_LOAD', cause });
    expect(error.remedy).toBeTruthy();
  });

  test('names the places that were searched', () => {
    expect(missing({})).toContain('/p/build/Release and /p/prebuilds/linux-x64');
  });

  test('tells a consumer how to reinstall and how to build from source', () => {
    expect(missing({})).toMatch(/npm install/);
    expect(missing({})).toMatch(/apt-get install -y build-essential cmake/);
    expect(missing({})).toMatch(/npm install --save-dev cmake-js node-addon-api/);
  });

  test('tells a developer in a checkout to build', () => {
    expect(missing({ checkout: true })).toMatch(/npm run build:native/);
    expect(missing({ checkout: true })).not.toMatch(/--save-dev/);
  });

  test('tells other platforms and musl what to use instead', () => {
    expect(missing({ target: 'darwin-arm64', glibc: undefined })).toMatch(/Linux.*darwin-arm64/);
    expect(missing({ glibc: undefined })).toMatch(/musl.*bookworm-slim/);
    expect(missing({ target: 'linux-riscv64' })).toMatch(/build it from source/);
  });

  test('explains an older glibc with both versions', () => {
    const linker = "/lib/libc.so.6: version `GLIBC_2.34' not found (required by /p/a.node)";
    expect(message(linker, { glibc: '2.31' })).toMatch(/needs glibc 2\.34.*has 2\.31.*Debian 12/);
  });

  test('explains a glibc binary on musl', () => {
    const linker = 'Error loading shared library ld-linux-x86-64.so.2: No such file or directory';
    expect(message(linker, { glibc: undefined })).toMatch(/made for glibc.*musl/);
  });

  test('explains a damaged or foreign file', () => {
    expect(message('/p/a.node: invalid ELF header', {})).toMatch(/damaged.*linux-x64/);
    expect(message('/p/a.node: file too short', {})).toMatch(/damaged/);
  });
});

describe('loadAddon', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), 'longspan-loader-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  function place(folder: string, content?: string): void {
    const file = path.join(root, folder, 'longspan.node');
    mkdirSync(path.dirname(file), { recursive: true });
    if (content === undefined) {
      copyFileSync(path.join(packageRoot, 'build', 'Release', 'longspan.node'), file);
    } else {
      writeFileSync(file, content);
    }
  }

  test('loads the binary of this checkout', () => {
    expect(loadAddon()).toBeTruthy();
  });

  test('loads a prebuilt binary', () => {
    place(path.join('prebuilds', `${process.platform}-${process.arch}`));
    expect(loadAddon(root)).toBeTruthy();
  });

  test('throws when there is no binary', () => {
    expect(() => loadAddon(root)).toThrow(/there is no native addon for .* in /);
  });

  test('throws with the file and the reason when the binary is damaged', () => {
    place('build/Release', 'not a shared object, but long enough to have an ELF header in it');
    expect(() => loadAddon(root)).toThrow(/build\/Release\/longspan\.node: .*invalid ELF header/);
    expect(() => loadAddon(root)).toThrow(/damaged or made for another platform/);
  });
});
