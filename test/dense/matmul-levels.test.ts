import { execFileSync } from 'node:child_process';
import { root } from '../root.js';

/** Every path of matmul and linear, hashed bit for bit, with the values of f32 results. */
const script = `
const { createHash } = require('node:crypto');
const { matmul, linear, tensor, transpose } = require('longspan');
const { addon } = require('./dist/native.js');
let state = 1;
const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 - 0.5;
const hash = createHash('sha256');
const sample = [];
const make = (shape, dtype) => tensor(Float64Array.from({ length: shape.reduce((n, d) => n * d, 1) }, next), { shape, dtype });
const note = (y) => {
  const data = y.dataSync();
  hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  if (y.dtype === 'f32') for (let i = 0; i < data.length; i += 97) sample.push(data[i]);
};
for (const dtype of ['f32', 'bf16', 'f16', 'f64']) {
  for (const [m, k, n] of [[1, 300, 500], [3, 1000, 7], [29, 65, 130], [300, 270, 310], [600, 40, 3], [2, 4500, 40]]) {
    const [a, b] = [make([m, k], dtype).requireGrad(), make([k, n], dtype).requireGrad()];
    const y = matmul(a, b, { bias: make([n], dtype).requireGrad(), activation: 'gelu' });
    note(y);
    y.backward({ gradient: make([m, n], dtype) });
    note(a.grad);
    note(b.grad);
    note(linear(make([m, k], dtype), make([n, k], dtype)));
    note(matmul(transpose(make([k, m], dtype)), make([k, n], dtype)));
  }
  note(matmul(make([40, 5, 17], dtype), make([40, 17, 9], dtype)));
}
console.log(JSON.stringify({ hash: hash.digest('hex'), sample, threads: addon.info().threads }));
`;

interface Result {
  hash: string;
  sample: number[];
  threads: number;
}

function runWith(level: string, threads: number): Result {
  const env = { ...process.env, LONGSPAN_CPU_LEVEL: level, LONGSPAN_NUM_THREADS: String(threads) };
  const out = execFileSync(process.execPath, ['-e', script], { cwd: root, env, encoding: 'utf8' });
  return JSON.parse(out) as Result;
}

test('results are bit-equal for any number of threads and close for any level', () => {
  const byLevel = ['portable', 'v3', 'v4'].map((level) => {
    const results = (level === 'v4' ? [1, 2, 5] : [1, 2]).map((threads) => runWith(level, threads));
    expect(results.map((r) => r.threads)).toEqual([1, 2, 5].slice(0, results.length));
    expect(new Set(results.map((r) => r.hash)).size).toBe(1);
    return results[0] as Result;
  });
  const [first, ...others] = byLevel as [Result, Result, Result];
  expect(first.sample.length).toBeGreaterThan(1000);
  for (const other of others) {
    first.sample.forEach((x, i) => {
      // Sums of up to 4500 products of numbers below 1/2.
      expect(Math.abs((other.sample[i] as number) - x)).toBeLessThan(2e-4);
    });
  }
});
