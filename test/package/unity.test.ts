import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import * as path from 'node:path';
import { root } from '../root.js';

// A build for users compiles several sources as one, in groups that change with every new file: names in
// anonymous namespaces must differ among all files of a target (CMakeLists.txt, longspan_group).
function sources(folder: string, name: RegExp): string[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((file) => path.join(folder, file))
    .filter((file) => name.test(file) && !/\/tests\/|_main\.cc$/.test(file))
    .sort();
}

const napi = (name: string) =>
  path.join(
    path.dirname(require.resolve(`${name}/package.json`)),
    name === 'node-addon-api' ? '' : 'include',
  );
const host = [
  ...['node-addon-api', 'node-api-headers'].flatMap((name) => ['-isystem', napi(name)]),
  ...['NAPI_VERSION=8', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NODE_ADDON_API_CPP_EXCEPTIONS'],
].map((flag) => (/^N/.test(flag) ? `-D${flag}` : flag));

const targets: Record<string, { files: string[]; flags: string[] }> = {
  base: {
    files: sources('cpp', /(?<!\.simd)\.cc$/),
    flags: [...host, '-DLONGSPAN_CUDA_STATE="in one"'],
  },
  'CPU kernels': { files: sources('cpp', /\.simd\.cc$/), flags: ['-DLONGSPAN_LEVEL=portable'] },
  'CUDA backend': { files: sources('cuda', /\.cc$/), flags: ['-DLONGSPAN_EMULATED=1'] },
  // Kernels of matmul share names on purpose: neighbours of the list, they do not meet.
  'CUDA kernels': {
    files: sources('cuda', /(?<!\/matmul_\w+)\.cu$/),
    flags: ['-DLONGSPAN_EMULATED=1', '-Wno-unknown-pragmas'],
  },
};

test.each(Object.entries(targets))('all sources of %s compile as one', (_, { files, flags }) => {
  expect(files.length).toBeGreaterThan(10);
  const run = spawnSync(
    process.env.CXX ?? 'g++',
    ['-std=c++20', '-fsyntax-only', '-Wno-psabi', `-I${root}`, ...flags, '-x', 'c++', '-'],
    { input: files.map((file) => `#include "${file}"\n`).join(''), encoding: 'utf8', cwd: root },
  );
  expect({ status: run.status, stderr: run.stderr }).toEqual({ status: 0, stderr: '' });
});
