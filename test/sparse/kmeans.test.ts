import {
  backward,
  clusterMembers,
  clusterSums,
  commitmentLoss,
  Generator,
  type KmeansState,
  kmeansAssign,
  kmeansInitialise,
  kmeansUpdate,
  normal,
  permute,
  type Tensor,
  tensor,
  zeros,
} from 'longspan';
import { direction, dot, members, nearest } from '../reference/sparse.js';
import { expectClose, tensorOf, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';

const list = (t: Tensor) => [...values(t)];
const rowsOf = (t: Tensor, dim: number): number[][] => {
  const data = list(t);
  return Array.from({ length: data.length / dim }, (_, i) => data.slice(i * dim, (i + 1) * dim));
};
const devices = testDevices();
const dtypesOf = (device: string) =>
  device === 'cpu' ? (['f32', 'f64', 'f16', 'bf16'] as const) : (['f32', 'f16', 'bf16'] as const);

/** [B, H, N, D] and k. */
const shapes: [number[], number][] = [
  [[1, 1, 1, 3], 1],
  [[2, 3, 77, 16], 5],
  [[1, 2, 130, 64], 19],
  [[1, 1, 9, 5], 40],
];

function stateOf(heads: number, k: number, dim: number, device = 'cpu', seed = 1): KmeansState {
  return {
    centroids: normal([heads, k, dim], { generator: new Generator(seed) }).to(device),
    sums: zeros([heads, k, dim]).to(device),
    counts: zeros([heads, k]).to(device),
    generator: tensor([seed, 0, 0, 0], { dtype: 'i32', device }),
  };
}

describe.each(devices)('on %s', (device) => {
  test('kmeansAssign finds the nearest centroid', () => {
    for (const [shape, k] of shapes) {
      const [, heads, n, dim] = shape as [number, number, number, number];
      for (const dtype of dtypesOf(device)) {
        const generator = new Generator(2);
        const x = normal(shape, { generator, dtype }).to(device);
        const centroids = normal([heads, k, dim], {
          generator,
          dtype: dtype === 'f64' ? 'f64' : 'f32',
        }).to(device);
        const { assignments, scores } = kmeansAssign(x, centroids);
        expect(assignments.dtype).toBe('i32');
        expect(scores.dtype).toBe(dtype === 'f64' ? 'f64' : 'f32');
        const [rows, means, found] = [rowsOf(x, dim), rowsOf(centroids, dim), list(assignments)];
        const expected = rows.map((row, i) => {
          const h = Math.floor(i / n) % heads;
          return nearest(row, means.slice(h * k, (h + 1) * k));
        });
        const wrong = expected.filter((e, i) => e.margin > 1e-5 && e.cluster !== found[i]);
        expect(wrong).toEqual([]);
        expectClose(
          scores,
          expected.map((e) => e.score),
          { absolute: dtype === 'f64' ? 1e-13 : 1e-5 },
        );
      }
    }
  });

  test('ties and zeros take the first; padding has no cluster and may hold anything', () => {
    const zero = zeros([1, 1, 70, 4]).to(device);
    const centroids = normal([1, 3, 4], { generator: new Generator(1) }).to(device);
    expect(list(kmeansAssign(zero, centroids).assignments)).toEqual(new Array(70).fill(0));
    const same = tensor(new Array(12).fill(0.5), { shape: [1, 3, 4], device });
    const x = normal([2, 1, 70, 4], { generator: new Generator(2) });
    expect(list(kmeansAssign(x.to(device), same).assignments)).toEqual(new Array(140).fill(0));
    const data = values(x);
    for (let i = 3 * 4; i < 70 * 4; i++) data[i] = Number.NaN;
    const lengths = tensor([3, 70], { dtype: 'i32', device });
    const padded = kmeansAssign(tensorOf(data, x.shape, 'f32').to(device), centroids, { lengths });
    expect(list(padded.assignments).slice(3, 70)).toEqual(new Array(67).fill(3));
    expect(list(padded.scores).slice(3, 70)).toEqual(new Array(67).fill(0));
    expect(list(padded.assignments).slice(0, 3)).toEqual(
      list(kmeansAssign(x.to(device), centroids).assignments).slice(0, 3),
    );
  });

  test('clusterSums adds directions by cluster, over the batch', () => {
    for (const [shape, k] of shapes) {
      const [batch, heads, n, dim] = shape as [number, number, number, number];
      const x = normal(shape, { generator: new Generator(5) }).to(device);
      const groups = Array.from({ length: batch * heads * n }, (_, i) => (i * 7) % (k + 1));
      const assignments = tensor(groups, { shape: [batch, heads, n], dtype: 'i32', device });
      const { sums, counts } = clusterSums(x, assignments, k);
      const expected = {
        sums: new Float64Array(heads * k * dim),
        counts: new Float64Array(heads * k),
      };
      rowsOf(x, dim).forEach((row, i) => {
        const [cluster, h] = [groups[i] as number, Math.floor(i / n) % heads];
        if (cluster === k) return;
        expected.counts[h * k + cluster]++;
        direction(row).forEach((u, d) => {
          expected.sums[(h * k + cluster) * dim + d] += u;
        });
      });
      expect(list(counts)).toEqual([...expected.counts]);
      expectClose(sums, expected.sums, { absolute: 2e-5 });
      expect(list(clusterSums(x, assignments, k).sums)).toEqual(list(sums));
    }
  });

  test('clusterMembers are the nearest tokens by position', () => {
    for (const [shape, k] of shapes) {
      const [, heads, n, dim] = shape as [number, number, number, number];
      const x = normal(shape, { generator: new Generator(6) });
      const centroids = normal([heads, k, dim], { generator: new Generator(7) });
      const [rows, means] = [rowsOf(x, dim), rowsOf(centroids, dim)];
      for (const window of [1, 5, n, n + 3]) {
        const found = clusterMembers(x.to(device), centroids.to(device), window);
        const width = Math.min(window, n);
        expect(found.shape).toEqual([shape[0], heads, k, width]);
        const expected = Array.from({ length: (shape[0] as number) * heads * k }, (_, i) => {
          const line = Math.floor(i / k);
          const centroid = means[((line % heads) * k + (i % k)) as number] as number[];
          return members(rows.slice(line * n, (line + 1) * n), centroid, width);
        });
        expect(list(found)).toEqual(expected.flat());
      }
    }
  });

  test('members: equal scores take the earlier, padding is left out', () => {
    const x = tensor(new Array(2 * 90 * 2).fill(1), { shape: [2, 1, 90, 2], device });
    const centroids = tensor([1, 0, 0, 1], { shape: [1, 2, 2], device });
    const lengths = tensor([90, 2], { dtype: 'i32', device });
    const found = list(clusterMembers(x, centroids, 4, { lengths }));
    expect(found).toEqual([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, -1, -1, 0, 1, -1, -1]);
  });

  test.each(['counts', 'means'] as const)('kmeansUpdate by %s follows its formula', (rule) => {
    const [heads, k, dim, decay, epsilon] = [2, 4, 3, 0.9, 1e-3];
    const state = stateOf(heads, k, dim, device);
    const x = normal([2, heads, 30, dim], { generator: new Generator(3) }).to(device);
    let [sums, counts] = [new Float64Array(heads * k * dim), new Float64Array(heads * k)];
    let centroids = values(state.centroids);
    for (let step = 0; step < 3; step++) {
      // Cluster 3 never has members.
      const groups = Array.from({ length: 120 }, (_, i) => (i * (step + 2)) % 3);
      const assignments = tensor(groups, { shape: [2, heads, 30], dtype: 'i32', device });
      const batch = clusterSums(x, assignments, k);
      const [s, c] = [values(batch.sums), values(batch.counts)];
      sums = sums.map((v, i) => decay * v + (1 - decay) * (s[i] as number));
      counts = counts.map((v, i) => decay * v + (1 - decay) * (c[i] as number));
      centroids = centroids.map((old, i) => {
        const cluster = Math.floor(i / dim);
        const h = Math.floor(cluster / k);
        if (rule === 'means') {
          if (c[cluster] === 0) return old;
          const mean = direction([...s.slice(cluster * dim, (cluster + 1) * dim)]);
          return decay * old + (1 - decay) * (mean[i % dim] as number);
        }
        const total = counts.slice(h * k, (h + 1) * k).reduce((sum, v) => sum + v, 0);
        if (counts[cluster] === 0) return old;
        const share = ((counts[cluster] as number) + epsilon) / (total + k * epsilon);
        return (sums[i] as number) / (share * total);
      });
      kmeansUpdate(state, x, batch, { decay, epsilon, minimum: 0, rule });
      expectClose(state.centroids, centroids, { absolute: 3e-6 });
      expectClose(state.sums, sums, { absolute: 3e-6 });
      expectClose(state.counts, counts, { absolute: 3e-6 });
    }
  });

  test('clusters that lose their members start anew from tokens', () => {
    const x = normal([1, 1, 50, 4], { generator: new Generator(4) }).to(device);
    const state = stateOf(1, 3, 4, device);
    const assignments = tensor(new Array(50).fill(1), { shape: [1, 1, 50], dtype: 'i32', device });
    const before = list(state.generator);
    kmeansUpdate(state, x, clusterSums(x, assignments, 3), { minimum: 0.5 });
    const directions = rowsOf(x, 4).map(direction);
    const [first, , third] = rowsOf(state.centroids, 4) as number[][];
    for (const centroid of [first, third] as number[][]) {
      expect(Math.max(...directions.map((u) => dot(u, centroid)))).toBeCloseTo(1, 5);
    }
    expect(first).not.toEqual(third);
    expectClose(state.counts, [0.05 / 3, 0.05, 0.05 / 3], { absolute: 1e-6 });
    expect(list(state.generator)).not.toEqual(before);
    // The same state makes the same choice.
    const twin = stateOf(1, 3, 4, device);
    kmeansUpdate(twin, x, clusterSums(x, assignments, 3), { minimum: 0.5 });
    expect(list(twin.centroids)).toEqual(list(state.centroids));
  });

  test('kmeansInitialise finds clusters that are there', () => {
    const generator = new Generator(9);
    const centres = normal([1, 6, 8], { generator });
    const noise = values(normal([2, 1, 120, 8], { generator, std: 0.1 }));
    const centre = values(centres);
    const data = noise.map((v, i) => v + (centre[(Math.floor(i / 8) % 6) * 8 + (i % 8)] as number));
    const x = tensorOf(data, [2, 1, 120, 8], 'f32').to(device);
    // Random starts may be unlucky: the best of a few.
    const scores = [1, 2, 3, 4].map((seed) => {
      const state = stateOf(1, 6, 8, device, seed);
      kmeansInitialise(state, x, { iterations: 12 });
      const { counts } = state;
      expect(list(counts).reduce((a, b) => a + b, 0)).toBeCloseTo(240, 2);
      return Math.min(...list(kmeansAssign(x, state.centroids).scores));
    });
    expect(Math.max(...scores)).toBeGreaterThan(0.7);
  });

  test('the gradient of commitmentLoss is that of its formula', async () => {
    const centroids = normal([2, 3, 4], { generator: new Generator(2) }).to(device);
    const x = normal([1, 2, 10, 4], { generator: new Generator(1) }).to(device);
    const { assignments } = kmeansAssign(x, centroids);
    const [rows, means, found] = [rowsOf(x, 4), rowsOf(centroids, 4), list(assignments)];
    const expected = rows.reduce((sum, row, i) => {
      const mean = means[Math.floor(i / 10) * 3 + (found[i] as number)] as number[];
      return sum + direction(row).reduce((s, u, d) => s + (u - (mean[d] as number)) ** 2, 0);
    }, 0);
    const leaf = x.detach().requireGrad();
    const loss = commitmentLoss(leaf, centroids, assignments);
    expect(loss.itemSync()).toBeCloseTo(expected / 80, 5);
    backward(loss);
    // Only directions count: no gradient along x.
    rowsOf(leaf.grad as Tensor, 4).forEach((g, i) => {
      expect(Math.abs(dot(g, rows[i] as number[]))).toBeLessThan(1e-6);
    });
  });
});

test('gradients of commitmentLoss by finite differences', async () => {
  const centroids = normal([2, 3, 4], { generator: new Generator(2), dtype: 'f64' });
  const x = normal([2, 5, 2, 4], { generator: new Generator(1), dtype: 'f64' });
  const heads = (t: Tensor) => permute(t, [0, 2, 1, 3]);
  const lengths = tensor([5, 3], { dtype: 'i32' });
  const { assignments } = kmeansAssign(heads(x), centroids, { lengths });
  await checkGradients((t) => commitmentLoss(heads(t), centroids, assignments), [x]);
});

test('bad input is refused', () => {
  const x = normal([1, 2, 6, 4]);
  const centroids = normal([2, 3, 4]);
  expect(() => kmeansAssign(x, normal([2, 3, 5]))).toThrow(
    "kmeansAssign: 'centroids' is f32[2, 3, 5]. It must have shape [2, 3, 4]",
  );
  expect(() => kmeansAssign(x, normal([3, 3, 4]))).toThrow(/shape \[2, 3, 4\]/);
  expect(() => kmeansAssign(x, normal([2, 0, 4]))).toThrow(/from 1 to/);
  expect(() => clusterMembers(x, centroids, 0)).toThrow("clusterMembers: 'window' is 0");
  expect(() => kmeansAssign(x, centroids, { length: null } as object)).toThrow("mean 'lengths'");
  const { assignments } = kmeansAssign(x, centroids);
  const state = stateOf(2, 3, 4);
  const batch = clusterSums(x, assignments, 3);
  expect(() => kmeansUpdate(state, x, batch, { decay: 1.5 })).toThrow("'decay' is 1.5");
  expect(() => kmeansUpdate({ ...state, counts: zeros([2, 4]) }, x, batch)).toThrow(/'counts'/);
  const half = { ...state, centroids: state.centroids.to('bf16') };
  expect(() => kmeansUpdate(half, x, batch)).toThrow(/Keep averages in f32/);
  expect(() => kmeansInitialise(state, x, { iterations: -1 })).toThrow("'iterations' is -1");
  const bad = tensor([1, Number.POSITIVE_INFINITY, 3, 4], { shape: [1, 1, 2, 2] });
  expect(() => kmeansAssign(bad, normal([1, 3, 2])).scores.dataSync()).toThrow(/head 0, token 0/);
  expect(() => clusterMembers(bad, normal([1, 3, 2]), 2).dataSync()).toThrow(/head 0, token 0/);
});
