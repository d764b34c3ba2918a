import {
  type DType,
  device,
  Generator,
  LshCache,
  type LshCacheOptions,
  lshAttention,
  lshRotations,
  lshStep,
  noGrad,
  normal,
  type Tensor,
  tensor,
  tidy,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';

interface Case {
  n: number;
  chunk: number;
  back?: number;
  buckets: number | number[];
  rounds: number;
  dtype?: DType;
  batch?: number;
  heads?: number;
  dim?: number;
  valueDim?: number;
}

function draw({ n, batch = 2, heads = 3, dim = 24, valueDim = 20, dtype = 'f32', ...c }: Case) {
  const generator = new Generator(3);
  const make = (d: number) => normal([batch, heads, n, d], { generator, dtype });
  const [qk, v] = [make(dim), make(valueDim)];
  const { buckets, rounds, chunk, back = 1 } = c;
  const rotations = lshRotations(qk, { buckets, rounds, generator });
  const sizes: LshCacheOptions = {
    ...{ batch, heads, capacity: n, buckets, rounds, chunk, back },
    ...{ keyDim: dim, valueDim, dtype },
  };
  return { qk, v, rotations, sizes };
}

/** The whole sequence at once. */
function parallel({ qk, v, rotations, sizes }: ReturnType<typeof draw>): Tensor {
  const { buckets, chunk = 64, back = 1 } = sizes;
  return lshAttention(qk, v, { buckets, rotations, chunk, back, causal: true });
}

/** Rows of `found`, tokens [from, to), that are not those of `whole` to the bit. */
function otherRows(found: Tensor, whole: Float64Array, n: number, from: number): number {
  const [batch, heads, tokens, width] = found.shape as [number, number, number, number];
  let others = 0;
  values(found).forEach((x, at) => {
    const t = Math.floor(at / width) % tokens;
    const line = Math.floor(at / width / tokens);
    if (!Object.is(x, whole[(line * n + from + t) * width + (at % width)])) others++;
  });
  expect(batch * heads * tokens * width).toBe(found.size);
  return others;
}

/** Decodes with a first step of `prompt` tokens and calls check(output, position) for each step. */
function decode(
  { qk, v, rotations }: ReturnType<typeof draw>,
  cache: LshCache,
  prompt: number,
  check: (y: Tensor, from: number) => void,
): void {
  const n = qk.dim(2);
  for (let i = 0; i < n; ) {
    const end = i === 0 ? prompt : i + 1;
    tidy(() => check(lshStep(qk.slice(2, i, end), v.slice(2, i, end), rotations, cache), i));
    i = end;
  }
}

const cases: [string, Case & { prompt?: number }][] = [
  ['chunks of 16, 3 rounds', { n: 2500, chunk: 16, buckets: 16, rounds: 3 }],
  ['chunks of 64, 4 rounds, a prompt', { n: 2100, chunk: 64, buckets: 4, rounds: 4, prompt: 7 }],
  ['odd chunks, two back', { n: 600, chunk: 23, back: 2, buckets: 2, rounds: 2 }],
  ['no chunk back, one round', { n: 400, chunk: 10, back: 0, buckets: 2, rounds: 1 }],
  ['factors of buckets', { n: 300, chunk: 3, buckets: [4, 2], rounds: 2 }],
  ['a chunk that holds everything', { n: 90, chunk: 1000, buckets: 2, rounds: 2 }],
  ['one token', { n: 1, chunk: 4, buckets: 2, rounds: 2 }],
  ['a prompt alone', { n: 130, chunk: 16, buckets: 4, rounds: 2, prompt: 130 }],
  ['bf16', { n: 300, chunk: 16, buckets: 4, rounds: 2, dtype: 'bf16' }],
  ['f16', { n: 300, chunk: 16, buckets: 4, rounds: 2, dtype: 'f16' }],
  ['f64', { n: 700, chunk: 16, buckets: 4, rounds: 3, dtype: 'f64' }],
];

test.each(cases)('steps equal the parallel form to the bit: %s', (_, { prompt = 1, ...c }) => {
  const given = draw(c);
  const whole = values(parallel(given));
  const cache = new LshCache(given.sizes);
  const bytes = cache.byteLength;
  let others = 0;
  decode(given, cache, prompt, (y, from) => {
    others += otherRows(y, whole, c.n, from);
  });
  expect(others).toBe(0);
  expect(cache.byteLength).toBe(bytes);
  cache.dispose();
});

test('several tokens after others', () => {
  const c = { n: 60, chunk: 4, buckets: 4, rounds: 2 };
  const given = draw(c);
  const whole = values(parallel(given));
  const cache = new LshCache(given.sizes);
  for (const [from, to] of [
    [0, 13],
    [13, 14],
    [14, 47],
    [47, 60],
  ] as const) {
    const part = (t: Tensor) => t.slice(2, from, to);
    const y = lshStep(part(given.qk), part(given.v), given.rotations, cache);
    expect(otherRows(y, whole, c.n, from)).toBe(0);
  }
  cache.dispose();
});

test.each(testDevices())('steps on %s', (name) => {
  const on = device(name);
  for (const c of [
    { n: 70, chunk: 5, buckets: 4, rounds: 3, heads: 2, dim: 8, valueDim: 12 },
    { n: 40, chunk: 300, buckets: 2, rounds: 1, heads: 2, dim: 40, valueDim: 8 },
  ]) {
    const given = draw(c);
    const whole = values(parallel(given));
    const [qk, v, rotations] = [given.qk, given.v, given.rotations].map((t) => t.to(on)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    for (const prompt of [1, 9]) {
      const cache = new LshCache({ ...given.sizes, device: on });
      decode({ ...given, qk, v, rotations }, cache, prompt, (y, from) => {
        const expected = tensor(whole, { shape: [2, 2, c.n, c.valueDim], dtype: 'f64' });
        const part = expected.slice(2, from, from + y.dim(2));
        expectClose(y, values(part), { absolute: 3e-6 });
      });
      cache.dispose();
    }
  }
});

test('lists and counts are small beside keys and values', () => {
  const sizes = { batch: 1, heads: 2, capacity: 4096, rounds: 4, chunk: 64, keyDim: 64 };
  const cache = new LshCache({ ...sizes, buckets: 64 });
  const { keys, values: rows } = cache.tokens;
  expect(cache.lists.byteLength + cache.counts.byteLength).toBeLessThan(
    (keys.byteLength + rows.byteLength) / 8,
  );
  cache.dispose();
});

test('vectors that are equal, or zero', () => {
  const given = draw({ n: 50, chunk: 8, buckets: 4, rounds: 2 });
  for (const factor of [0, 1]) {
    const first = given.qk.slice(2, 0, 1);
    const rows = noGrad(() =>
      tensor(
        values(first).map((x) => x * factor),
        { shape: first.shape },
      ),
    );
    const qk = tensor(
      Array.from({ length: 2 * 3 * 50 * 24 }, (_, i) => {
        const line = Math.floor(i / (50 * 24));
        return values(rows)[line * 24 + (i % 24)] as number;
      }),
      { shape: given.qk.shape },
    );
    const same = { ...given, qk };
    const whole = values(parallel(same));
    const cache = new LshCache(given.sizes);
    let others = 0;
    decode(same, cache, 1, (y, from) => {
      others += otherRows(y, whole, 50, from);
    });
    expect(others).toBe(0);
    cache.dispose();
  }
});

test('bad input is refused', () => {
  const { qk, v, rotations, sizes } = draw({ n: 4, chunk: 4, buckets: 4, rounds: 2 });
  const make = (changed: object) => () => new LshCache({ ...sizes, ...changed });
  expect(make({ buckets: 3 })).toThrow("'buckets' is 3");
  expect(make({ rounds: 0 })).toThrow("'rounds' is 0");
  expect(make({ chunk: 0 })).toThrow("'chunk' is 0");
  expect(make({ back: -1 })).toThrow("'back' is -1");
  expect(make({ bucket: 4 })).toThrow("'buckets'");
  const other = make({ heads: 2 })();
  expect(() => lshStep(qk, v, rotations, other)).toThrow(/'k' .*/);
  const full = make({})();
  lshStep(qk, v, rotations, full);
  const one = (t: Tensor) => t.slice(2, 0, 1);
  expect(() => lshStep(one(qk), one(v), rotations, full).dataSync()).toThrow(/capacity|room/);
  full.reset();
  expect(() => lshStep(qk, v, rotations, full).dataSync()).not.toThrow();
});

test('the first tokens of a cache, computed as a whole, are not recorded', () => {
  const { qk, v, rotations, sizes } = draw({ n: 6, chunk: 4, buckets: 4, rounds: 2 });
  const cache = new LshCache(sizes);
  const cpu = device('cpu');
  const step = (from: number, to: number) =>
    lshStep(qk.slice(2, from, to), v.slice(2, from, to), rotations, cache);
  expect(() => cpu.capture(() => step(0, 2))).toThrow(
    /several tokens for an empty cache cannot be recorded.*before device.capture/s,
  );
  step(0, 2);
  const graph = cpu.capture(() => step(2, 3));
  graph.dispose();
  // What was refused left the cache as it was.
  expect(values(cache.tokens.lengths)).toEqual(values(tensor([3, 3], { dtype: 'i32' })));
});
