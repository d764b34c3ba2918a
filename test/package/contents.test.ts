import { execFileSync } from 'node:child_process';
import { root } from '../root.js';

/** Paths in the tarball that `npm pack` would write. */
function packedFiles(): string[] {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const json = execFileSync('npm', args, { cwd: root, encoding: 'utf8' });
  const [{ files }] = JSON.parse(json) as [{ files: { path: string }[] }];
  return files.map((file) => file.path);
}

describe('the published package', () => {
  const files = packedFiles();

  test.each([
    'dist/index.js',
    'dist/index.d.ts',
    'scripts/install.mjs',
    'CMakeLists.txt',
    'binding.gyp',
    'README.md',
    'CHANGELOG.md',
    'LICENSE',
  ])('has %s', (file) => expect(files).toContain(file));

  test('has the native sources, for systems without a prebuilt binary', () => {
    expect(files.filter((file) => /^cpp\/.*\.(cc|h)$/.test(file))).not.toHaveLength(0);
  });

  test('has no tests, TypeScript sources or settings of development', () => {
    const shipped = /^(dist|cpp|cuda|prebuilds|scripts)\/|^[\w.]+$/;
    expect(files.filter((file) => !shipped.test(file))).toEqual([]);
    expect(files.filter((file) => /tsconfig|biome|jest|\.test\./.test(file))).toEqual([]);
  });
});
