import {
  type AppendRotary,
  alibiSlopes,
  attentionDecode,
  attentionDecodeShared,
  concat,
  type DecodingCache,
  type Device,
  device,
  KvCache,
  PagedKvCache,
  rotary,
  slice,
  type Tensor,
  tensor,
  zeros,
} from 'longspan';
import { type AttentionCase, attentionReference } from '../reference/attention.js';
import { expectClose, type FloatType, tensorOf, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { Random } from '../support/random.js';

const integers = (x: readonly number[], on: Device): Tensor => tensor(Int32Array.from(x)).to(on);

const draw = (seed: number, shape: number[], dtype: FloatType, on: Device): Tensor =>
  tensorOf(new Random(seed).normal(shape.reduce((n, x) => n * x)), shape, dtype).to(on);

interface Sizes {
  lengths: number[];
  heads: number;
  d: number;
  capacity: number;
}

function cacheOf(
  { lengths, heads, d, capacity }: Sizes,
  dtype: FloatType,
  on: Device,
): DecodingCache {
  const shape = [lengths.length, heads, capacity, d];
  return {
    keys: draw(21, shape, dtype, on),
    values: draw(22, shape, dtype, on),
    lengths: integers(lengths, on),
  };
}

describe.each(testDevices())('appending with rotation on %s', (name) => {
  const on = device(name);
  const dtypes: FloatType[] =
    name === 'cpu' ? ['f32', 'bf16', 'f16', 'f64'] : ['f32', 'bf16', 'f16'];

  describe.each(dtypes)('in %s', (dtype) => {
    test.each([
      ['all channels', {}, 12],
      ['some channels, odd ones pass', { dim: 6 }, 11],
      ['interleaved pairs', { interleaved: true, base: 500 }, 8],
      ['no channel', { dim: 0 }, 8],
      ['a wide head', {}, 144],
    ] as [string, AppendRotary, number][])('gives the bits of rotary: %s', (_, turns, d) => {
      const sizes = {
        batch: 2,
        heads: 3,
        capacity: 40,
        headDim: d,
        valueDim: 4,
        dtype,
        device: on,
      };
      using fused = new KvCache(sizes);
      using apart = new KvCache(sizes);
      const counts = integers([9, 4], on);
      const first = draw(1, [2, 9, 3, d], dtype, on).permute(0, 2, 1, 3);
      const value = draw(2, [2, 3, 9, 4], dtype, on);
      expect(fused.append(first, value, { counts, rotary: turns })).toBeNull();
      const positions = tensor(
        Int32Array.from({ length: 18 }, (_, i) => i % 9),
        { shape: [2, 9] },
      );
      apart.append(rotary(first, { ...turns, positions: positions.to(on) }), value, { counts });
      // Entries of different lengths, queries of another number of heads, as a projection leaves them.
      const token = draw(3, [2, 2, 3, d], dtype, on).permute(0, 2, 1, 3);
      const next = draw(4, [2, 3, 2, 4], dtype, on);
      const q = draw(5, [2, 2, 6, d], dtype, on).permute(0, 2, 1, 3);
      const at = tensor(Int32Array.of(9, 10, 4, 5), { shape: [2, 2] }).to(on);
      const turned = fused.append(token, next, { rotary: { ...turns, queries: q } });
      apart.append(rotary(token, { ...turns, positions: at }), next);
      expect(values(turned)).toEqual(values(rotary(q, { ...turns, positions: at })));
      for (const [row, length] of [
        [0, 11],
        [1, 6],
      ] as const) {
        const rows = (t: Tensor) => values(slice(slice(t, 0, row, row + 1), 2, 0, length));
        expect(rows(fused.keys)).toEqual(rows(apart.keys));
        expect(rows(fused.values)).toEqual(rows(apart.values));
      }
      expect([...fused.lengths.dataSync()]).toEqual([11, 6]);
    });
  });

  test('frequencies, and pages', () => {
    const sizes = { batch: 2, heads: 2, headDim: 8, device: on };
    using whole = new KvCache({ ...sizes, capacity: 12 });
    using paged = new PagedKvCache({ ...sizes, pages: 8, pageSize: 3 });
    paged.admit();
    paged.admit();
    const frequencies = tensor(Float32Array.of(1, 0.3, 0.05, 0.001)).to(on);
    for (const t of [5, 1]) {
      const k = draw(t, [2, 2, t, 8], 'f32', on);
      const at = tensor(Int32Array.from({ length: t }, (_, i) => i + (t === 1 ? 5 : 0))).to(on);
      whole.append(rotary(k, { frequencies, positions: at }), k);
      paged.append(k, k, { rotary: { frequencies } });
    }
    const q = draw(9, [2, 4, 1, 8], 'f32', on);
    expect(values(attentionDecode(q, paged))).toEqual(values(attentionDecode(q, whole)));
  });
});

test('rotation refuses what does not fit', () => {
  using cache = new KvCache({ batch: 1, heads: 1, capacity: 4, headDim: 4 });
  const k = zeros([1, 1, 1, 4]);
  expect(() => cache.append(k, k, { rotary: { dim: 3 } })).toThrow(/'dim'.*3.*even/s);
  expect(() => cache.append(k, k, { rotary: { dim: 6 } })).toThrow(/'dim'.*6/s);
  expect(() => cache.append(k, k, { rotary: { base: 0 } })).toThrow(/'base'.*above 0/s);
  expect(() => cache.append(k, k, { rotary: { queries: zeros([1, 2, 2, 4]) } })).toThrow(/'q'/);
  expect(() => cache.append(k, k, { rotary: { frequencies: zeros([3]) } })).toThrow(
    /'frequencies'/,
  );
  // @ts-expect-error a misspelt option
  expect(() => cache.append(k, k, { rotary: { bas: 3 } })).toThrow(/'base'/);
  expect([...cache.lengths.dataSync()]).toEqual([0]);
});

describe.each(testDevices())('the planner on %s', (name) => {
  const on = device(name);

  test.each([
    ['f32', 3e-6],
    ['bf16', 2e-2],
  ] as const)('any number of splits gives the same result in %s', (dtype, absolute) => {
    const cache = cacheOf({ lengths: [700, 64, 3], heads: 1, d: 16, capacity: 720 }, dtype, on);
    const q = draw(1, [3, 4, 2, 16], dtype, on);
    const whole = values(attentionDecode(q, cache, { splits: 1 }));
    for (const splits of ['auto', 2, 7, 128] as const) {
      expectClose(attentionDecode(q, cache, { splits }), whole, { absolute }, `${splits} splits`);
      const windowed = { windowLeft: 100, splits };
      const expected = values(attentionDecode(q, cache, { windowLeft: 100, splits: 1 }));
      expectClose(attentionDecode(q, cache, windowed), expected, { absolute }, `window, ${splits}`);
    }
  });

  test.each(['f32', 'f16'] as const)(
    'a batch-invariant result has the same bits alone, in %s',
    (dtype) => {
      const lengths = [1300, 40, 700];
      for (const windowLeft of [-1, 600]) {
        const options = { batchInvariant: true, windowLeft };
        const cache = cacheOf({ lengths, heads: 2, d: 24, capacity: 1312 }, dtype, on);
        const q = draw(1, [3, 4, 1, 24], dtype, on);
        const batch = attentionDecode(q, cache, options);
        lengths.forEach((length, row) => {
          const own = (t: Tensor) => slice(t, 0, row, row + 1);
          const expected = values(own(batch));
          // In caches of several capacities, one of them just large enough.
          for (const capacity of [1312, Math.max(length, 600), length]) {
            const alone = {
              keys: slice(own(cache.keys), 2, 0, capacity).contiguous(),
              values: slice(own(cache.values), 2, 0, capacity).contiguous(),
              lengths: integers([length], on),
            };
            expect(values(attentionDecode(own(q), alone, options))).toEqual(expected);
          }
        });
      }
    },
  );

  test('tokens decoded one by one have the bits of several at once', () => {
    const cache = cacheOf({ lengths: [1030], heads: 1, d: 16, capacity: 1100 }, 'f32', on);
    const q = draw(1, [1, 2, 4, 16], 'f32', on);
    const together = attentionDecode(q, cache, { batchInvariant: true });
    for (let t = 0; t < 4; t++) {
      const before = { ...cache, lengths: integers([1027 + t], on) };
      const y = attentionDecode(slice(q, 2, t, t + 1).contiguous(), before, {
        batchInvariant: true,
      });
      expect(values(y)).toEqual(values(slice(together, 2, t, t + 1)));
    }
  });
});

test('splits refuse what does not fit', () => {
  const cache = cacheOf({ lengths: [4], heads: 1, d: 4, capacity: 8 }, 'f32', device('cpu'));
  const q = zeros([1, 1, 1, 4]);
  for (const splits of [0, -1, 1.5, 129]) {
    expect(() => attentionDecode(q, cache, { splits })).toThrow(/'splits'.*1 to 128/s);
  }
  expect(() => attentionDecode(q, cache, { splits: 2, batchInvariant: true })).toThrow(
    /'splits' is 2.*depend on the batch/s,
  );
});

describe.each(testDevices())('terms of decoding on %s', (name) => {
  const on = device(name);
  const dtypes: [FloatType, number][] = [
    ['f32', 4e-6],
    ['bf16', 3e-2],
    ...(name === 'cpu' ? ([['f64', 1e-13]] as [FloatType, number][]) : []),
  ];

  describe.each(dtypes)('in %s', (dtype, absolute) => {
    const wide = dtype === 'f64' ? 'f64' : 'f32';
    const c: AttentionCase = {
      ...{ b: 2, hq: 6, hkv: 2, n: 3, m: 330, d: 24, dv: 20, causal: true },
      keyLengths: [330, 90],
      queryLengths: [3, 2],
    };
    const random = new Random(13);
    const q = random.normal(2 * 6 * 3 * 24);
    const k = random.normal(2 * 2 * 330 * 24);
    const v = random.normal(2 * 2 * 330 * 20);
    const slopes = Float64Array.from(values(alibiSlopes(6)));
    const sinks = Float64Array.of(0.5, -1, Number.NEGATIVE_INFINITY, 2, 0, 6);
    const bias = (shape: readonly [number, number, number, number]) => {
      const data = random.normal(shape.reduce((n, x) => n * x));
      for (let i = 5; i < data.length; i += 31) data[i] = Number.NEGATIVE_INFINITY;
      return { data, shape };
    };

    test.each([
      ['ALiBi', { alibiSlopes: slopes }],
      ['sinks', { sinks }],
      ['a bias for all', { bias: bias([2, 6, 3, 330]) }],
      ['a bias per key', { bias: bias([1, 1, 1, 330]) }],
      ['a bias per head and query', { bias: bias([1, 6, 3, 1]) }],
      [
        'all of them, capped',
        { alibiSlopes: slopes, sinks, bias: bias([2, 1, 3, 330]), softcap: 3 },
      ],
    ] as [string, Partial<AttentionCase>][])('%s', (_, terms) => {
      const cache = {
        keys: tensorOf(k, [2, 2, 330, 24], dtype).to(on),
        values: tensorOf(v, [2, 2, 330, 20], dtype).to(on),
        lengths: integers([330, 90], on),
      };
      const rounded = (x: Float64Array, shape: readonly number[], type: FloatType) =>
        tensorOf(x, [...shape], type).to(on);
      const expected = attentionReference({ ...c, ...terms }, q, k, v);
      for (const splits of [1, 4]) {
        const [o, lse] = attentionDecode(tensorOf(q, [2, 6, 3, 24], dtype).to(on), cache, {
          counts: integers([3, 2], on),
          ...(terms.alibiSlopes && { alibiSlopes: rounded(slopes, [6], wide) }),
          ...(terms.sinks && { sinks: rounded(sinks, [6], wide) }),
          ...(terms.bias && { bias: rounded(terms.bias.data, terms.bias.shape, dtype) }),
          ...(terms.softcap && { softcap: terms.softcap }),
          splits,
          returnLse: true,
        });
        expectClose(o, expected.o, { absolute }, `outputs, ${splits} splits`);
        expectClose(lse, expected.lse, { absolute }, `log-sum-exp, ${splits} splits`);
      }
    });
  });

  test('many rows, of which some are surplus', () => {
    const cache = cacheOf({ lengths: [70], heads: 1, d: 8, capacity: 80 }, 'f32', on);
    const q = draw(1, [1, 6, 3, 8], 'f32', on); // 18 rows in tiles of 8 or 16
    const slopes = alibiSlopes(6).to(on);
    const y = attentionDecode(q, cache, { alibiSlopes: slopes });
    for (let h = 0; h < 6; h++) {
      const own = attentionDecode(slice(q, 1, h, h + 1).contiguous(), cache, {
        alibiSlopes: slice(slopes, 0, h, h + 1),
      });
      expectClose(slice(y, 1, h, h + 1), values(own), { absolute: 2e-6 });
    }
  });
});

describe.each(testDevices())('a shared prefix on %s', (name) => {
  const on = device(name);

  test.each([
    ['f32', 3e-6, {}],
    ['bf16', 2e-2, {}],
    ['f32', 3e-6, { softcap: 2, scale: 0.4, batchInvariant: true }],
  ] as const)('equals caches that hold it each, in %s', (dtype, absolute, options) => {
    const sizes = { heads: 2, headDim: 16, valueDim: 12, dtype, device: on };
    const batch = 3;
    using prefix = new PagedKvCache({ ...sizes, batch: 1, pages: 40, pageSize: 8 });
    using suffix = new KvCache({ ...sizes, batch, capacity: 24 });
    using whole = new KvCache({ ...sizes, batch, capacity: 340 });
    const heads = (seed: number, b: number, t: number) =>
      [16, 12].map((d) => draw(seed + d, [b, 2, t, d], dtype, on)) as [Tensor, Tensor];
    const prompt = heads(1, 1, 310);
    prefix.admit();
    prefix.append(...prompt);
    const repeated = prompt.map((t) => concat(new Array<Tensor>(batch).fill(t), 0));
    whole.append(...(repeated as [Tensor, Tensor]));
    const q = draw(9, [batch, 6, 4, 16], dtype, on);
    const sinks = tensor(Float32Array.of(1, 0, -1, 2, 0.5, 3)).to(on);
    for (const taken of [
      [11, 3, 7],
      [4, 2, 3],
    ]) {
      const counts = integers(taken, on);
      const added = heads(taken[0] as number, batch, 11);
      for (const cache of [suffix, whole]) cache.append(...added, { counts });
    }
    const given = { ...options, counts: integers([4, 2, 3], on), sinks };
    const y = attentionDecodeShared(q, prefix, suffix, given);
    expectClose(y, values(attentionDecode(q, whole, given)), { absolute });
    // Queries that do not exist stay 0.
    expect(values(slice(slice(y, 0, 1, 2), 2, 2, 4)).every((x) => x === 0)).toBe(true);
  });

  test('is refused where it cannot be', () => {
    const cache = cacheOf({ lengths: [4, 4], heads: 1, d: 4, capacity: 8 }, 'f32', on);
    const q = zeros([2, 1, 1, 4], { device: on });
    expect(() => attentionDecodeShared(q, cache, cache)).toThrow(
      /'prefix'.*2 entries.*batch of 1/s,
    );
    // @ts-expect-error positions of the prefix differ from sequence to sequence
    expect(() => attentionDecodeShared(q, cache, cache, { windowLeft: 3 })).toThrow(/windowLeft/);
  });
});
