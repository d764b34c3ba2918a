import {
  attention,
  backward,
  checkpoint,
  clusterMembers,
  device,
  Generator,
  gradients,
  kmeansAssign,
  mechanismFrom,
  normal,
  RoutingAttention,
  RoutingCache,
  routingAttention,
  routingStep,
  sum,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from 'longspan';
import { direction, routed } from '../reference/sparse.js';
import { expectClose, tensorOf, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';

type Shape4 = [number, number, number, number];
const list = (t: Tensor) => [...values(t)];
const rowsOf = (t: Tensor): number[][] => {
  const [data, dim] = [list(t), t.shape.at(-1) as number];
  return Array.from({ length: data.length / dim }, (_, i) => data.slice(i * dim, (i + 1) * dim));
};

function draw(shape: number[], dtype: 'f32' | 'f64' = 'f64', seed = 1, valueDim = shape[3]) {
  const generator = new Generator(seed);
  const make = (dim: number) => normal([...shape.slice(0, 3), dim], { generator, dtype });
  const [q, k, v] = [make(shape[3] as number), make(shape[3] as number), make(valueDim as number)];
  const centroidsOf = (clusters: number) =>
    normal([shape[1] as number, clusters, shape[3] as number], { generator, dtype });
  return { q: q as Tensor, k: k as Tensor, v: v as Tensor, centroidsOf };
}

/** The twin over all heads. */
function expected(q: Tensor, k: Tensor | null, v: Tensor, centroids: Tensor, window: number) {
  const [batch, heads, n, dim] = q.shape as Shape4;
  const keys = k ?? q;
  const [queryClusters, keyClusters] = [q, keys].map((x) =>
    list(kmeansAssign(x, centroids).assignments),
  ) as [number[], number[]];
  const [a, b, c] = [q, keys, v].map(rowsOf) as [number[][], number[][], number[][]];
  return Array.from({ length: batch * heads }, (_, line) => {
    const of = <T>(rows: T[]) => rows.slice(line * n, (line + 1) * n);
    return routed({
      ...{ q: of(a), k: of(b), v: of(c), window, scale: 1 / Math.sqrt(dim), shared: k === null },
      ...{ queryClusters: of(queryClusters), keyClusters: of(keyClusters) },
    });
  }).flat(2);
}

const shapes: [number[], clusters: number, window: number][] = [
  [[1, 1, 1, 4], 1, 3],
  [[2, 3, 77, 8], 5, 6],
  [[1, 2, 150, 16], 4, 64],
  [[1, 2, 40, 8], 60, 2],
  [[1, 1, 33, 8], 2, 1000],
];

describe.each(['f32', 'f64'] as const)('%s', (dtype) => {
  const absolute = dtype === 'f64' ? 1e-11 : 3e-6;

  test.each(shapes)(
    '%j in %i clusters, window %i: keys of their own and shared',
    (shape, k, window) => {
      const { q, k: keys, v, centroidsOf } = draw(shape, dtype, 3, 12);
      const centroids = centroidsOf(k);
      for (const own of [keys, null]) {
        const y = routingAttention(q, own, v, centroids, { window });
        expect(y.shape).toEqual([...shape.slice(0, 3), 12]);
        expectClose(y, expected(q, own, v, centroids, window), { absolute });
      }
    },
  );

  test('one cluster that holds everything is exact attention', () => {
    const { q, k, v, centroidsOf } = draw([2, 2, 90, 8], dtype);
    const one = centroidsOf(1);
    const causal = routingAttention(q, k, v, one, { window: 90 });
    expectClose(causal, values(attention(q, k, v, { causal: true })), { absolute });
    const full = routingAttention(q, k, v, one, { window: 90, causal: false });
    expectClose(full, values(attention(q, k, v)), { absolute });
    const balanced = routingAttention(q, k, v, one, { window: 90, balanced: true });
    expectClose(balanced, values(attention(q, k, v, { causal: true })), { absolute });
  });

  test('equal keys share what they see evenly; zero vectors are finite', () => {
    const v = draw([1, 1, 20, 4], dtype).v;
    const same = tensorOf(new Float64Array(80).fill(0.5), [1, 1, 20, 4], dtype);
    const centroids = tensorOf([1, 1, 1, 1, -1, -1, -1, -1], [1, 2, 4], dtype);
    const y = rowsOf(routingAttention(same, same, v, centroids, { window: 5 }));
    const rows = rowsOf(v);
    y.forEach((row, i) => {
      const seen = rows.slice(Math.max(0, i - 4), i + 1);
      row.forEach((x, d) => {
        const mean = seen.reduce((total, r) => total + (r[d] as number), 0) / seen.length;
        expect(Math.abs(x - mean)).toBeLessThan(1e-5);
      });
    });
    const zero = zeros([1, 1, 20, 4], { dtype });
    for (const k of [zero, null]) {
      const leaf = zero.detach().requireGrad();
      const out = routingAttention(leaf, k, v, centroids, { window: 5 });
      expect(list(out).every(Number.isFinite)).toBe(true);
      backward(sum(out));
      expect(list(leaf.grad as Tensor).every(Number.isFinite)).toBe(true);
    }
  });

  test('padding sees nothing and is seen by nobody', () => {
    const { q, k, v, centroidsOf } = draw([2, 2, 30, 8], dtype);
    const centroids = centroidsOf(3);
    const lengths = tensor([30, 11], { dtype: 'i32' });
    for (const own of [k, null]) {
      for (const balanced of [false, true]) {
        const y = routingAttention(q, own, v, centroids, {
          ...{ window: 6, balanced, lengths },
          ...(own && { keyLengths: lengths }),
        });
        const second = (t: Tensor) => t.slice(0, 1, 2).slice(2, 0, 11);
        const alone = routingAttention(second(q), own && second(own), second(v), centroids, {
          ...{ window: 6, balanced },
        });
        expectClose(second(y), values(alone), { absolute });
        expect(list(y.slice(0, 1, 2).slice(2, 11, 30)).every((x) => x === 0)).toBe(true);
      }
    }
  });
});

test('what a query sees never depends on later tokens; balanced clusters leak', () => {
  const { q, k, v, centroidsOf } = draw([1, 2, 64, 8], 'f32', 5);
  const centroids = centroidsOf(4);
  const change = (t: Tensor) => {
    const data = values(t);
    for (let i = 0; i < data.length; i++) {
      if (Math.floor(i / 8) % 64 >= 56) data[i] = 3 * Math.sin(i) + 1;
    }
    return tensorOf(data, t.shape, 'f32');
  };
  const early = (t: Tensor) => list(t.slice(2, 0, 56));
  for (const own of [k, null]) {
    for (const balanced of [false, true]) {
      const run = (of: (t: Tensor) => Tensor) =>
        early(routingAttention(of(q), own && of(own), of(v), centroids, { window: 8, balanced }));
      const [before, after] = [run((t) => t), run(change)];
      const changed = before.filter((x, i) => !Object.is(x, after[i])).length;
      if (balanced) expect(changed).toBeGreaterThan(0);
      else expect(changed).toBe(0);
    }
  }
});

test('gradients with the clusters held fixed, by finite differences', async () => {
  const { q, k, v, centroidsOf } = draw([1, 2, 11, 4], 'f64', 7, 3);
  const centroids = centroidsOf(2);
  const [assignments, keyAssignments] = [q, k].map((x) => kmeansAssign(x, centroids).assignments);
  const fixed = { window: 4, assignments: assignments as Tensor };
  await checkGradients(
    (a, b, c) =>
      routingAttention(a, b, c, centroids, { ...fixed, keyAssignments: keyAssignments as Tensor }),
    [q, k, v],
  );
  await checkGradients((a, c) => routingAttention(a, null, c, centroids, fixed), [q, v]);
  await checkGradients(
    (a, b, c) =>
      routingAttention(a, b, c, centroids, {
        ...fixed,
        causal: false,
        keyAssignments: keyAssignments as Tensor,
      }),
    [q, k, v],
  );
  // Small steps leave the members of these clusters as they are.
  await checkGradients(
    (a, b, c) => routingAttention(a, b, c, centroids, { window: 4, balanced: true }),
    [q, k, v],
  );
  await checkGradients(
    (a, c) => routingAttention(a, null, c, centroids, { window: 4, balanced: true }),
    [q, v],
  );
});

test('balanced: outputs of several clusters are averaged, unrouted tokens give 0', () => {
  const { q, k, v, centroidsOf } = draw([1, 1, 24, 4], 'f64', 9);
  const centroids = centroidsOf(3);
  for (const causal of [true, false]) {
    const y = rowsOf(
      routingAttention(q, k, v, centroids, { window: 7, keyWindow: 9, balanced: true, causal }),
    );
    const [a, b, c] = [q, k, v].map(rowsOf) as [number[][], number[][], number[][]];
    const [queries, keys] = [
      rowsOf(clusterMembers(q, centroids, 7)),
      rowsOf(clusterMembers(k, centroids, 9)),
    ];
    const out = a.map(() => [0, 0, 0, 0]);
    const counts = a.map(() => 0);
    queries.forEach((members, cluster) => {
      for (const i of members) {
        const seen = (keys[cluster] as number[]).filter((j) => !causal || j <= i);
        const logits = seen.map(
          (j) => 0.5 * (a[i] as number[]).reduce((s, x, d) => s + x * (b[j]?.[d] as number), 0),
        );
        const weights = logits.map(Math.exp);
        const total = weights.reduce((x, w) => x + w, 0);
        counts[i] = (counts[i] as number) + 1;
        seen.forEach((j, n) => {
          for (let d = 0; d < 4; d++)
            (out[i] as number[])[d] += ((weights[n] as number) / total) * (c[j]?.[d] as number);
        });
      }
    });
    expect(counts).toContain(0);
    expect(counts.some((n) => n > 1)).toBe(true);
    const mean = out.map((row, i) => row.map((x) => x / Math.max(1, counts[i] as number)));
    expectClose(tensorOf(y.flat(), [24, 4], 'f64'), mean.flat(), { absolute: 1e-12 });
  }
});

describe.each(testDevices())('on %s', (name) => {
  test.each([
    ['keys of their own', false, 9],
    ['shared keys', true, 9],
    ['a window beyond everything', false, 1000],
  ])('causal rows and gradients are those of f64, %s', (_, shared, window) => {
    const { q, k, v, centroidsOf } = draw([2, 2, 90, 24], 'f64', 3, 20);
    const centroids = centroidsOf(4);
    const upstream = normal([2, 2, 90, 20], { generator: new Generator(5), dtype: 'f64' });
    const lengths = tensor([90, 61], { dtype: 'i32' });
    const run = (place: (t: Tensor) => Tensor) => {
      const leaves = (shared ? [q, v] : [q, k, v]).map((t) => place(t).detach().requireGrad());
      const [queries, keys] = [leaves[0] as Tensor, shared ? null : (leaves[1] as Tensor)];
      const y = routingAttention(queries, keys, leaves.at(-1) as Tensor, place(centroids), {
        ...{ window, lengths: lengths.to(queries.device) },
        ...(!shared && { keyLengths: lengths.to(queries.device) }),
      });
      return [y, ...gradients([y], leaves, { gradients: [place(upstream)] })] as Tensor[];
    };
    const expectedOf = run((t) => t.detach());
    const found = run((t) => t.to('f32').to(device(name)));
    found.forEach((t, i) => {
      expectClose(t, values(expectedOf[i] as Tensor), { absolute: 2e-5 });
    });
  });
});

describe('decoding', () => {
  test.each([true, false])(
    'steps equal the parallel form to the bit over 3000 tokens, shared keys %s',
    (shared) => {
      const n = 3000;
      const { q, k, v, centroidsOf } = draw([1, 2, n, 8], 'f32', 11);
      const centroids = centroidsOf(6);
      const own = shared ? null : k;
      const whole = routingAttention(q, own, v, centroids, { window: 32 });
      const cache = new RoutingCache({ batch: 1, heads: 2, clusters: 6, window: 32, keyDim: 8 });
      const bytes = cache.byteLength;
      const at = (t: Tensor, from: number, to: number) => t.slice(2, from, to);
      const outputs: Float64Array[] = [];
      for (let i = 0; i < n; ) {
        const end = i === 0 ? 7 : i + 1; // a prompt first
        tidy(() => {
          const y = routingStep(
            at(q, i, end),
            own && at(own, i, end),
            at(v, i, end),
            centroids,
            cache,
          );
          outputs.push(values(y));
        });
        i = end;
      }
      const parallel = values(whole);
      let others = 0;
      let i = 0;
      for (const y of outputs) {
        const count = y.length / 16;
        y.forEach((x, e) => {
          const [h, t, d] = [Math.floor(e / (count * 8)), Math.floor(e / 8) % count, e % 8];
          if (!Object.is(x, parallel[(h * n + i + t) * 8 + d])) others++;
        });
        i += count;
      }
      expect(others).toBe(0);
      expect(cache.byteLength).toBe(bytes);
      cache.dispose();
    },
  );

  test('bad caches are refused', () => {
    const { q, k, v, centroidsOf } = draw([1, 2, 1, 8], 'f32');
    const cache = new RoutingCache({ batch: 1, heads: 2, clusters: 6, window: 4, keyDim: 8 });
    expect(() => routingStep(q, k, v, centroidsOf(5), cache).dataSync()).not.toThrow();
    const other = new RoutingCache({ batch: 2, heads: 2, clusters: 6, window: 4, keyDim: 8 });
    expect(() => routingStep(q, k, v, centroidsOf(6), other)).toThrow(
      /'counts' .*shape \[1, 2, 6\]/,
    );
    expect(
      () => new RoutingCache({ batch: 1, heads: 2, clusters: 6, window: 0, keyDim: 8 }),
    ).toThrow("RoutingCache: 'window' is 0");
  });
});

describe('the module', () => {
  const make = (options = {}) =>
    new RoutingAttention({ heads: 2, dim: 8, clusters: 4, window: 8, decay: 0.9, ...options });
  const step = (mechanism: RoutingAttention, seed: number) => {
    const { q, k, v } = draw([2, 2, 60, 8], 'f32', seed);
    return list(mechanism.forward(q, k, v));
  };
  const state = (mechanism: RoutingAttention) =>
    Object.fromEntries(Object.entries(mechanism.stateDict()).map(([name, t]) => [name, list(t)]));

  test('learns from training batches alone', () => {
    const mechanism = make();
    expect(Object.keys(mechanism.stateDict()).sort()).toEqual([
      'average_counts',
      'average_sums',
      'centroids',
      'generator_state',
      'initialised',
    ]);
    mechanism.eval();
    const before = state(mechanism);
    step(mechanism, 1);
    expect(state(mechanism)).toEqual(before);
    expect(mechanism.auxiliaryLoss()).toBeNull();
    mechanism.train();
    step(mechanism, 1);
    const first = state(mechanism);
    expect(first.initialised).toEqual([1]);
    expect(first.centroids).not.toEqual(before.centroids);
    // Both queries and keys count.
    expect(first.average_counts?.reduce((a, b) => a + b, 0)).toBeCloseTo(2 * 2 * 2 * 60, 2);
    const loss = mechanism.auxiliaryLoss() as Tensor;
    expect(loss.itemSync()).toBeGreaterThan(0);
    expect(mechanism.auxiliaryLoss()).toBeNull();
    step(mechanism, 2);
    expect(state(mechanism).centroids).not.toEqual(first.centroids);
  });

  test('a run that is resumed continues bit for bit', () => {
    const whole = make();
    for (const seed of [1, 2, 3]) step(whole, seed);
    const saved = Object.fromEntries(
      Object.entries(whole.stateDict()).map(([name, t]) => [name, t.detach().contiguous()]),
    );
    const copies = Object.fromEntries(
      Object.entries(saved).map(([name, t]) => [
        name,
        tensor(list(t), { shape: t.shape, dtype: t.dtype }),
      ]),
    );
    const resumed = make();
    resumed.loadStateDict(copies);
    for (const seed of [4, 5, 6]) expect(step(resumed, seed)).toEqual(step(whole, seed));
    expect(state(resumed)).toEqual(state(whole));
  });

  test('layers that are computed again route alike and move centroids once', () => {
    const [plain, again] = [make(), make()];
    again.loadStateDict(plain.stateDict());
    const { q, k, v } = draw([2, 2, 60, 8], 'f32', 3);
    const leaves = [0, 1].map(() => [q, k, v].map((t) => t.detach().requireGrad())) as Tensor[][];
    const [a, b] = leaves as [Tensor[], Tensor[]];
    const run = (mechanism: RoutingAttention) => (x: Tensor, y: Tensor, z: Tensor) =>
      mechanism.forward(x, y, z);
    for (let i = 0; i < 2; i++) {
      backward(sum(run(plain)(a[0] as Tensor, a[1] as Tensor, a[2] as Tensor)));
      backward(sum(checkpoint(run(again) as (...t: Tensor[]) => Tensor, b)));
      expect(state(again)).toEqual(state(plain));
    }
    a.forEach((t, i) => {
      expect(list(b[i]?.grad as Tensor)).toEqual(list(t.grad as Tensor));
    });
  });

  test('clusters spread out over tokens that lie in groups', () => {
    const mechanism = make({ clusters: 4, commitment: 0 });
    const centres = rowsOf(normal([4, 8], { generator: new Generator(1) })).map(direction);
    for (let i = 0; i < 30; i++) {
      const noise = rowsOf(normal([2, 2, 80, 8], { generator: new Generator(i), std: 0.05 }));
      const data = noise.flatMap((row, t) =>
        row.map((x, d) => x + (centres[t % 4]?.[d] as number)),
      );
      const x = tensorOf(data, [2, 2, 80, 8], 'f32');
      mechanism.forward(x, x, x);
    }
    const counts = list(mechanism.averageCounts);
    const total = counts.reduce((a, b) => a + b, 0);
    expect(Math.min(...counts) / (total / counts.length)).toBeGreaterThan(0.2);
  });
});

test('bad input is refused', () => {
  const { q, k, v, centroidsOf } = draw([1, 2, 10, 8], 'f32');
  const centroids = centroidsOf(4);
  expect(() => routingAttention(q, k, v, normal([2, 4, 6]))).toThrow(
    "'centroids' is f32[2, 4, 6]. It must have shape [2, 4, 8]",
  );
  expect(() => routingAttention(q, k, v, centroids, { window: 0 })).toThrow(
    "routingAttention: 'window' is 0",
  );
  expect(() => routingAttention(q, k, v, centroids, { epsilon: 1 })).toThrow(
    /'epsilon'.*balanced: true/,
  );
  const { assignments } = kmeansAssign(q, centroids);
  expect(() => routingAttention(q, k, v, centroids, { balanced: true, assignments })).toThrow(
    /'assignments'.*Leave it out/,
  );
  expect(() => routingAttention(q, k.slice(2, 0, 9), v, centroids)).toThrow(/'k'/);
  expect(() => routingAttention(q, k.slice(2, 0, 9), v.slice(2, 0, 9), centroids)).toThrow(
    /causal: false/,
  );
  expect(() => routingAttention(q, null, v, centroids, { windw: 3 } as object)).toThrow(
    "mean 'window'",
  );
  const bad = tensorOf(
    [...values(q)].map((x, i) => (i === 20 ? Number.NaN : x)),
    q.shape,
    'f32',
  );
  expect(() => routingAttention(bad, null, v, centroids).dataSync()).toThrow(/head 0, token 2/);
  expect(() => new RoutingAttention({ heads: 2, dim: 8, clusters: 0 })).toThrow("'clusters' is 0");
  expect(() => new RoutingAttention({ heads: 2, dim: 8, clusters: 4, decay: 2 })).toThrow(
    "'decay' is 2",
  );
  const mechanism = mechanismFrom({ name: 'routing', heads: 4, dim: 8, clusters: 4 });
  expect(() => mechanism.forward(q, k, v)).toThrow(/'q'.*\[B, 4, N, 8\]/);
  const balanced = new RoutingAttention({ heads: 2, dim: 8, clusters: 4, balanced: true });
  expect(balanced.decodes).toBe(false);
  expect(balanced.causality).toBe('leaking');
});
