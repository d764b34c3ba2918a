import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic, writeFileAtomicSync } from 'longspan';
import { root } from '../root.js';
import { temporaryDirectory } from '../temporary.js';

describe('writeFileAtomic', () => {
  const at = temporaryDirectory();

  test('writes text and bytes, replaces, keeps permissions and leaves no other file', async () => {
    await writeFileAtomic(at('a'), 'zwölf');
    expect(fs.readFileSync(at('a'), 'utf8')).toBe('zwölf');
    fs.chmodSync(at('a'), 0o640);
    writeFileAtomicSync(at('a'), new Uint16Array([0x4241]).subarray(0));
    expect(fs.readFileSync(at('a'), 'latin1')).toBe('AB');
    expect(fs.statSync(at('a')).mode & 0o777).toBe(0o640);
    expect(fs.readdirSync(at())).toEqual(['a']);
  });

  test('follows a symbolic link instead of replacing it', async () => {
    fs.symlinkSync(at('a'), at('link'));
    await writeFileAtomic(at('link'), 'through');
    expect(fs.lstatSync(at('link')).isSymbolicLink()).toBe(true);
    expect(fs.readFileSync(at('a'), 'utf8')).toBe('through');
  });

  test('a missing directory is a FileError that names the path', async () => {
    await expect(writeFileAtomic(at('no/such/file'), 'x')).rejects.toMatchObject({
      code: 'ERR_FILE',
      value: at('no/such/file'),
    });
    expect(() => writeFileAtomicSync(at('no/such/file'), 'x')).toThrow(/cannot write/);
  });

  test('a process killed at any moment leaves the old or the new content, whole', async () => {
    const file = at('state');
    const size = 1 << 20;
    fs.writeFileSync(file, Buffer.alloc(size, 0));
    const writer = `
      const { writeFileAtomicSync } = require(${JSON.stringify(join(root, 'dist/core/atomic-file.js'))});
      for (let i = 1; ; i = (i + 1) % 250) {
        writeFileAtomicSync(${JSON.stringify(file)}, Buffer.alloc(${size}, i));
        if (i === 1) process.stdout.write('.');
      }`;
    const seen = new Set<number>();
    for (let round = 0; round < 12; round++) {
      const child = spawn(process.execPath, ['-e', writer], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await new Promise((resolve) => setTimeout(resolve, (round * 7) % 40));
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
      const content = fs.readFileSync(file);
      expect(content.length).toBe(size);
      expect(content.equals(Buffer.alloc(size, content[0]))).toBe(true);
      seen.add(content[0]);
    }
    expect(seen.has(0)).toBe(false); // the children did write
  }, 60_000);
});
