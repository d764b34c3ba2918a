/**
 * Long sequences by exact tiled attention:
 *
 *     node examples/long-context/main.mjs
 *
 * First time and memory of forward and backward against the length, beside the naive formula that stores
 * the matrix of scores. Then a language model learns from short documents, given one to a padded row and
 * packed into long rows whose documents do not see each other.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  attention,
  device,
  gradients,
  matmul,
  mul,
  normal,
  ones,
  renderCurveSvg,
  softmax,
  tidy,
  transpose,
} from 'longspan';
import { compareLayouts } from './documents.mjs';

const { values } = parseArgs({
  options: {
    longest: { type: 'string', default: '16384' },
    steps: { type: 'string', default: '400' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string', default: 'runs/long-context.svg' },
  },
});
function count(name) {
  const x = Number(values[name]);
  if (!Number.isInteger(x) || x < 1) {
    console.error(`--${name} is ${values[name]}: use a whole number from 1 on`);
    process.exit(2);
  }
  return x;
}
const [longest, steps, seed] = [count('longest'), count('steps'), count('seed')];

const heads = 4;
const dim = 64;
/** Bytes the naive formula may take. */
const most = 3e9;

const ways = {
  tiled: (q, k, v) => attention(q, k, v),
  naive: (q, k, v) => matmul(softmax(mul(matmul(q, transpose(k)), dim ** -0.5)), v),
};

/** Seconds of forward and backward, and the most memory they held beside their operands. */
function measure(attend, n) {
  const [q, k, v] = [0, 1, 2].map(() => normal([1, heads, n, dim]).requireGrad());
  const upstream = ones([1, heads, n, dim]);
  const run = () =>
    tidy(() => {
      for (const g of gradients([attend(q, k, v)], [q, k, v], { gradients: [upstream] }))
        g.dataSync();
    });
  run();
  const cpu = device('cpu');
  cpu.resetPeakMemory();
  const before = cpu.memory().active;
  const start = performance.now();
  run();
  const seconds = (performance.now() - start) / 1e3;
  const bytes = cpu.memory().peak - before;
  for (const t of [q, k, v, upstream]) t.dispose();
  return { n, seconds, bytes };
}

const curves = { tiled: [], naive: [] };
console.log('forward and backward, 4 heads of 64, f32\n');
console.log('tokens      tiled             naive');
for (let n = 512; n <= longest; n *= 2) {
  const cells = Object.entries(ways).map(([name, attend]) => {
    // Scores, weights and their gradients, each [heads, n, n].
    if (name === 'naive' && 4 * heads * n * n * 4 > most) return '-';
    const point = measure(attend, n);
    curves[name].push(point);
    return `${point.seconds.toFixed(3)} s ${(point.bytes / 1e6).toFixed(0).padStart(5)} MB`;
  });
  console.log(`${String(n).padStart(6)}  ${cells[0].padStart(16)}  ${cells[1].padStart(16)}`);
}
mkdirSync(path.dirname(values.out), { recursive: true });
writeFileSync(
  values.out,
  renderCurveSvg({
    title: 'Most memory of attention, forward and backward',
    subtitle: `${heads} heads of ${dim}, f32`,
    xLabel: 'tokens',
    yLabel: 'MB',
    logX: true,
    logY: true,
    series: Object.entries(curves).map(([name, points]) => ({
      name,
      x: points.map(({ n }) => n),
      y: points.map(({ bytes }) => bytes / 1e6),
    })),
  }),
);
console.log(`\nbytes against tokens: ${values.out}\n`);

await compareLayouts({ steps, seed });
