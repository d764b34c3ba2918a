/** The command line on a GPU: the addon of these tests is that of the processes they start. */
import * as fs from 'node:fs';
import { longspan } from '../cli/run.js';
import { describeCuda } from '../support/devices.js';
import { temporaryDirectory } from '../temporary.js';

describeCuda('longspan on cuda', () => {
  const at = temporaryDirectory();

  beforeAll(() => {
    fs.writeFileSync(at('text.txt'), 'the quick brown fox jumps over the lazy dog\n'.repeat(20));
  });

  test.each(['f16', 'bf16'])('trains in %s, resumes and writes text', (dtype) => {
    const out = at(dtype);
    const model = ['--dim', '16', '--layers', '1', '--heads', '2', '--sequence', '16'];
    const size = ['--batch', '2', '--steps', '6', '--eval-every', '3', '--dtype', dtype];
    const run = longspan(['train', at('text.txt'), ...model, ...size, '-d', 'cuda', '-o', out]);
    expect(run.err).toMatch(/Trained 6 steps/);
    expect(run.code).toBe(0);
    const more = longspan(['train', '--resume', '-o', out, '-d', 'cuda', '--steps', '8']);
    expect(more.err).toMatch(/Trained 8 steps/);
    expect(more.code).toBe(0);
    const write = ['generate', '-c', out, '-p', 'the ', '-n', '8', '--seed', '3', '-q'];
    const text = longspan([...write, '-d', 'cuda']);
    expect(text.err).toBe('');
    expect(text.code).toBe(0);
    expect(longspan([...write, '-d', 'cuda', '--no-cache']).out).toBe(text.out);
  });

  test.each([
    [{}, /cuBLASLt +off \(LONGSPAN_CUBLASLT=auto or on/],
    [{ LONGSPAN_CUBLASLT: 'yes' }, /LONGSPAN_CUBLASLT is 'yes'. Use off, auto or on/],
    [
      { LONGSPAN_CUBLASLT: 'auto', LONGSPAN_CUBLASLT_LIBRARY: '/nowhere/libcublasLt.so' },
      /cuBLASLt +not used: \/nowhere\/libcublasLt.so: cannot open/,
    ],
  ])('doctor says what is known of cuBLASLt: %o', (env, line) => {
    expect(longspan(['doctor'], { env }).out).toMatch(line);
  });
});
