import { execFileSync } from 'node:child_process';
import { root } from '../root.js';

/**
 * One process per instruction-set level runs the same operators on the same numbers. `exact` results
 * are equal bit for bit by contract (random numbers, conversions, whatever moves or compares
 * elements); `close` ones are sums and polynomials, which FMA and the width of a vector change.
 */
const script = `
const l = require('longspan');
const { addon } = require('./dist/native.js');
let state = 7;
const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
const make = (shape, dtype = 'f32') =>
  l.tensor(Float64Array.from({ length: shape.reduce((n, d) => n * d, 1) }, next), { shape, dtype });
const leaf = (shape, dtype) => make(shape, dtype).requireGrad();
const exact = {}, close = {};
const keep = (into, name, ...tensors) => {
  into[name] = tensors.flatMap((t) => Array.from(t.to('f64').dataSync()));
};

l.manualSeed(3);
keep(exact, 'uniform', l.uniform([1037]));
keep(exact, 'normal', l.normal([1037]));
keep(exact, 'bernoulli', l.bernoulli([1037], { p: 0.3 }));
keep(exact, 'randint', l.randint([1037], -5, 1000));
const x = make([37, 61]), wide = make([37, 61], 'f64');
for (const dtype of ['f16', 'bf16', 'f64', 'i32', 'u8']) {
  keep(exact, 'f32 to ' + dtype, l.mul(l.abs(x), 100).to(dtype));
  keep(exact, 'f64 to ' + dtype, l.mul(l.abs(wide), 100).to(dtype));
}
for (const dtype of ['f16', 'bf16']) {
  keep(exact, dtype + ' to f32, by stride', l.transpose(make([37, 61], dtype), 0, 1).to('f32'));
}
keep(exact, 'where', l.where(l.less(x, 0), x, make([61])));
keep(exact, 'sort', l.sort(x).values, l.sort(x).indices);
keep(exact, 'add, mul', l.add(x, make([61])), l.mul(x, x), l.maximum(x, make([61])));
keep(exact, 'max', l.max(x, 1), l.argmax(x, 1));

const slopes = (name, f, shape = [13, 45]) => {
  for (const dtype of ['f32', 'f64', 'bf16']) {
    const shapes = Array.isArray(shape[0]) ? shape : [shape];
    const inputs = shapes.map((s) => leaf(s, dtype));
    const y = f(...inputs);
    y.backward({ gradient: make([...y.shape], dtype) });
    keep(close, name + ' ' + dtype, y, ...inputs.map((t) => t.grad));
  }
};
for (const name of ['exp', 'sin', 'cos', 'tanh', 'sigmoid', 'erf', 'softplus', 'gelu', 'silu', 'softmax', 'logSoftmax', 'cumsum']) {
  slopes(name, (t) => (name === 'cumsum' ? l.cumsum(t, 1) : l[name](t)));
}
slopes('log', (t) => l.log(l.add(l.square(t), 0.1)));
slopes('sum', (t) => l.sum(t, 0));
slopes('mean', (t) => l.mean(t, 1));
slopes('rmsNorm', (t, w) => l.rmsNorm(t, w), [[13, 45], [45]]);
slopes('layerNorm', (t, w, b) => l.layerNorm(t, w, b), [[13, 45], [45], [45]]);
slopes('swiglu', (a, b) => l.swiglu(a, b), [[13, 45], [13, 45]]);
slopes('linear', (t, w) => l.linear(t, w), [[13, 45], [29, 45]]);
slopes('attention', (q, k, v) => l.attention(q, k, v, { causal: true }), [[1, 4, 35, 24], [1, 2, 35, 24], [1, 2, 35, 24]]);
console.log(JSON.stringify({ level: addon.info().cpuLevel, exact, close }));
`;

type Results = Record<string, number[]>;
interface Run {
  level: string;
  exact: Results;
  close: Results;
}

function runAt(level: string): Run {
  const env = { ...process.env, LONGSPAN_CPU_LEVEL: level };
  return JSON.parse(
    execFileSync(process.execPath, ['-e', script], {
      cwd: root,
      env,
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    }),
  ) as Run;
}

/** The largest difference, in units of 1 + |x|. */
function distance(a: number[], b: number[]): number {
  return a.reduce((most, x, i) => {
    const y = b[i] as number;
    return Math.max(most, Object.is(x, y) ? 0 : Math.abs(x - y) / (1 + Math.abs(x)));
  }, 0);
}

/** Narrow results may be rounded to the neighbouring number: 8 bits of mantissa. */
const bound = (name: string) =>
  name.endsWith('bf16') ? 2 ** -6 : name.endsWith('f64') ? 1e-13 : 1e-5;

describe('instruction-set levels agree', () => {
  const best = runAt('');
  for (const level of ['portable', 'v3']) {
    test(`${level} with ${best.level}`, () => {
      const run = runAt(level);
      // A processor that has no more than v3, or is no x86, runs its best level twice.
      if (best.level === 'v4') expect(run.level).toBe(level);
      expect(run.exact).toEqual(best.exact);
      expect(Object.keys(run.close)).toEqual(Object.keys(best.close));
      for (const [name, values] of Object.entries(run.close)) {
        const other = best.close[name] as number[];
        expect(other.length).toBe(values.length);
        expect({ name, near: distance(values, other) <= bound(name) }).toEqual({
          name,
          near: true,
        });
      }
    });
  }
});
