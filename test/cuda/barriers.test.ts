/**
 * Every `__syncthreads` of the dense and sparse kernels is needed, and the emulator sees when it is
 * missing: programs are run once for each barrier they meet, with that barrier left out
 * (LONGSPAN_EMULATED_SKIP_BARRIER), and must fail. Barriers of matmul and of the attention kernels
 * are planted by scripts/kernel-tests.mjs.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../root.js';
import { describeCuda } from '../support/devices.js';

/** Each a few calls whose results are read at the end. */
const programs: Record<string, string> = {
  rows: `[softmax(random(2, 3000)), cumsum(random(2, 5000), 1), argmax(random(3, 2500), 1)]`,
  columns: `[sum(random(300, 40), 0), softmax(random(90, 40), 0)]`,
  'transposed copy': `[add(transpose(random(700, 450), 0, 1).contiguous(), 1)]`,
  norm: `backwardOf((x, w, b) => layerNorm(x, w, b), random(9, 300), random(300), random(300))`,
  activation: `backwardOf((x, w, b) => linear(x, w, b, { activation: 'gelu' }),
    random(70, 20), random(40, 20), random(40))`,
  embedding: `[[9000, 11], [256, 2]].flatMap(([n, rows]) =>
    backwardOf((w) => embedding(w, ids(n, rows)), random(rows, 24)))`,
  'norm of gradients': `Object.values(gradNorm([random(5000), random(70, 3)]))`,
  sort: `Object.values(sort(random(1, 3000)))`,
  'top k': `Object.values(topK(random(2, 3000), 5))`,
  'cross entropy': `backwardOf((x) => crossEntropy(x, ids(3, 2900)), random(3, 2900))`,
  sampling: `[categorical(random(2, 3000), { topK: 50, topP: 0.9 })]`,
  hashing: `(() => {
    const buckets = lshBuckets(random(1, 2, 150, 40), { buckets: [8, 8], rounds: 2 });
    return [buckets, ...Object.values(bucketSort(buckets, 64))];
  })()`,
  clusters: `(() => {
    const x = random(1, 2, 300, 40), centroids = random(2, 8, 40);
    const { assignments } = kmeansAssign(x, centroids);
    const state = {
      centroids, sums: zeros([2, 8, 40], { device: cuda }), counts: zeros([2, 8], { device: cuda }),
      generator: zeros([4], { dtype: 'i32', device: cuda }),
    };
    kmeansUpdate(state, x, clusterSums(x, assignments, 8));
    const members = clusterMembers(x, centroids, 32);
    const loss = commitmentLoss(x.requireGrad(), centroids, assignments);
    return [state.centroids, ...[members].flat(), loss, ...gradients([loss], [x])];
  })()`,
  'routing step': `(() => {
    const cache = new RoutingCache({
      batch: 1, heads: 1, clusters: 1, window: 300, keyDim: 4, device: cuda,
    });
    const row = () => random(1, 1, 310, 4);
    return [routingStep(row(), row(), row(), random(1, 1, 4), cache)];
  })()`,
  'hashing step': `(() => {
    const cache = new LshCache({
      batch: 1, heads: 1, capacity: 310, buckets: 2, rounds: 2, chunk: 300, keyDim: 4, device: cuda,
    });
    const rotations = random(1, 2, 4, 1);
    const step = (n) => lshStep(random(1, 1, n, 4), random(1, 1, n, 4), rotations, cache);
    return [step(1), step(309)];
  })()`,
};

interface Run {
  /** The barrier's source line; none if the program meets fewer. */
  skipped: string | null;
  failed: boolean;
  output: string;
}

function run(program: string, barrier: number): Promise<Run> {
  const script = `
const longspan = require(${JSON.stringify(join(root, 'dist/index.js'))});
const { ${Object.keys(require('longspan')).join(', ')} } = longspan;
const cuda = device('cuda');
manualSeed(1);
const random = (...shape) => normal(shape, { device: cuda });
const ids = (n, of) => tensor(Array.from({ length: n }, (_, i) => (i * 7) % of), { dtype: 'i32', device: cuda });
const backwardOf = (f, ...x) => {
  x.forEach((t) => t.requireGrad());
  const y = [f(...x)].flat()[0];
  return [y, ...gradients([y], x, y.rank === 0 ? {} : { gradients: [normal(y.shape, { device: cuda })] })];
};
(async () => {
  for (const t of ${program}) await t.data();
})().catch((error) => { console.error(String(error.cause ?? error)); process.exitCode = 1; });`;
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, ['-e', script], {
      env: {
        ...process.env,
        LONGSPAN_EMULATED_SKIP_BARRIER: String(barrier),
        LONGSPAN_EMULATED_SMS: '1', // few blocks, which loop
      },
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: 60_000,
    });
    let output = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
    child.on('error', fail);
    child.on('close', (status) => {
      const skipped = /SKIP_BARRIER: left out (\S+)/.exec(output)?.[1] ?? null;
      done({ skipped, failed: status !== 0, output });
    });
  });
}

/** Lines of the sources that are barriers. */
function barriers(): string[] {
  const files = ['cuda/reduce.cuh'];
  for (const family of ['dense', 'sparse']) {
    for (const file of readdirSync(join(root, 'cuda', family))) {
      if (/\.cuh?$/.test(file) && !/^(matmul|sorted)_/.test(file)) {
        files.push(`cuda/${family}/${file}`);
      }
    }
  }
  return files.flatMap((file) =>
    readFileSync(join(root, file), 'utf8')
      .split('\n')
      .flatMap((line, i) => (line.includes('__syncthreads();') ? [`${file}:${i + 1}`] : [])),
  );
}

describeCuda('a barrier left out', () => {
  const noticed = new Set<string>();
  const met = new Set<string>();

  test.each(Object.keys(programs))('%s', async (name) => {
    const program = programs[name] as string;
    const whole = await run(program, 0);
    expect(whole).toEqual({ skipped: null, failed: false, output: '' });
    for (let barrier = 1; ; ++barrier) {
      const { skipped, failed } = await run(program, barrier);
      if (skipped === null) break;
      met.add(skipped);
      if (failed) noticed.add(skipped);
    }
  });

  test('is noticed, wherever it is', () => {
    expect([...met].filter((line) => !noticed.has(line))).toEqual([]);
    expect(barriers().filter((line) => !met.has(line))).toEqual([]);
  });
});
