import {
  attention,
  attentionDecode,
  device,
  KvCache,
  slice,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from 'longspan';
import { type AttentionCase, attentionReference } from '../reference/attention.js';
import { expectClose, type FloatType, tensorOf, values } from '../support/compare.js';
import { describeCuda, expectSameOnCuda } from '../support/devices.js';
import { Random } from '../support/random.js';

interface Setting {
  hq: number;
  hkv: number;
  d: number;
  dv: number;
  n: number;
  options?: { windowLeft?: number; softcap?: number; scale?: number };
}

/** Decodes a sequence in the given pieces and compares with attention over the whole. */
function checkPieces(
  { hq, hkv, d, dv, n, options = {} }: Setting,
  pieces: readonly number[],
  dtype: FloatType,
  tolerance: number,
): void {
  const random = new Random(11);
  const make = (h: number, width: number) =>
    tensorOf(random.normal(2 * h * n * width), [2, h, n, width], dtype);
  const [q, k, v] = [make(hq, d), make(hkv, d), make(hkv, dv)];
  const { windowLeft, ...rest } = options;
  const whole = attention(q, k, v, {
    causal: true,
    ...rest,
    ...(windowLeft === undefined ? {} : { window: [windowLeft, 0] as const }),
  });
  using cache = new KvCache({
    batch: 2,
    heads: hkv,
    capacity: n + 5,
    headDim: d,
    valueDim: dv,
    dtype,
  });
  let from = 0;
  for (const count of pieces) {
    const piece = (x: Tensor) => slice(x, 2, from, from + count);
    cache.append(piece(k), piece(v));
    const y = attentionDecode(piece(q), cache, options);
    expectClose(y, values(piece(whole)), { absolute: tolerance }, `tokens from ${from}`);
    from += count;
  }
  expect([...cache.lengths.dataSync()]).toEqual([from, from]);
}

describe('decoding equals attention over the whole sequence', () => {
  test.each([
    ['one head each', { hq: 2, hkv: 2, d: 16, dv: 16, n: 40 }],
    ['grouped heads', { hq: 6, hkv: 2, d: 24, dv: 12, n: 70 }],
    ['one key head', { hq: 20, hkv: 1, d: 8, dv: 8, n: 30 }],
    [
      'softcap and scale',
      { hq: 2, hkv: 1, d: 5, dv: 3, n: 25, options: { softcap: 2, scale: 0.7 } },
    ],
    ['a window', { hq: 2, hkv: 1, d: 8, dv: 8, n: 90, options: { windowLeft: 20 } }],
  ] as [string, Setting][])('%s, token by token', (_, setting) => {
    checkPieces(setting, [setting.n - 12, ...new Array<number>(12).fill(1)], 'f32', 3e-6);
  });

  test.each([
    ['grouped heads', { hq: 6, hkv: 2, d: 24, dv: 12, n: 90 }],
    [
      'softcap, scale and a window',
      { hq: 2, hkv: 1, d: 5, dv: 3, n: 80, options: { softcap: 2, scale: 0.7, windowLeft: 20 } },
    ],
  ] as [string, Setting][])('%s in f64', (_, setting) => {
    checkPieces(setting, [setting.n - 12, 5, 1, 1, 5], 'f64', 1e-14);
  });

  test('pieces of several tokens', () => {
    checkPieces({ hq: 4, hkv: 2, d: 64, dv: 64, n: 300 }, [100, 7, 1, 33, 64, 90, 5], 'f32', 3e-6);
  });

  test('keys split among work items', () => {
    checkPieces({ hq: 2, hkv: 1, d: 16, dv: 16, n: 1500 }, [1400, 1, 20, 70], 'f32', 3e-6);
  });

  test.each(['bf16', 'f16'] as const)('a cache in %s', (dtype) => {
    checkPieces(
      { hq: 4, hkv: 1, d: 40, dv: 40, n: 50 },
      [40, 1, 3],
      dtype,
      dtype === 'bf16' ? 0.02 : 3e-3,
    );
  });
});

test.each([
  ['f32', 3e-6],
  ['f64', 1e-13],
] as const)('ragged prompts: each batch entry has its own length, %s', (dtype, tolerance) => {
  const c: AttentionCase = { b: 2, hq: 2, hkv: 1, n: 8, m: 20, d: 4, dv: 4, causal: true };
  const random = new Random(5);
  const k = random.normal(2 * 20 * 4);
  const v = random.normal(2 * 20 * 4);
  const q = random.normal(2 * 2 * 8 * 4);
  using cache = new KvCache({ batch: 2, heads: 1, capacity: 20, headDim: 4, dtype });
  const counts = (a: number, b: number) => tensor(new Int32Array([a, b]));
  // Entry 0 takes 12 and 5 tokens, entry 1 takes 7 and 8; padding is NaN and must be ignored.
  const piece = (x: Float64Array, starts: number[], taken: number[], width: number) => {
    const padded = new Float64Array(2 * width * 4).fill(Number.NaN);
    for (let b = 0; b < 2; b++) {
      const from = (b * 20 + (starts[b] as number)) * 4;
      padded.set(x.subarray(from, from + (taken[b] as number) * 4), b * width * 4);
    }
    return tensorOf(padded, [2, 1, width, 4], dtype);
  };
  cache.append(piece(k, [0, 0], [12, 7], 12), piece(v, [0, 0], [12, 7], 12), {
    counts: counts(12, 7),
  });
  cache.append(piece(k, [12, 7], [5, 8], 8), piece(v, [12, 7], [5, 8], 8), {
    counts: counts(5, 8),
  });
  expect([...cache.lengths.dataSync()]).toEqual([17, 15]);
  const y = attentionDecode(tensorOf(q, [2, 2, 8, 4], dtype), cache, { counts: counts(5, 8) });
  const expected = attentionReference(
    { ...c, keyLengths: [17, 15], queryLengths: [5, 8] },
    q,
    k,
    v,
  );
  expectClose(y, expected.o, { absolute: tolerance });
});

test.each([
  ['f32', 'f32', 3e-6],
  ['bf16', 'f32', 2e-2],
  ['f64', 'f64', 1e-13],
] as const)('the log-sum-exp of decoding in %s is %s', (dtype, wide, tolerance) => {
  const c: AttentionCase = { b: 2, hq: 4, hkv: 2, n: 3, m: 40, d: 8, dv: 8, causal: true };
  const keyLengths = Int32Array.of(33, 2);
  const random = new Random(3);
  const make = (h: number, n: number) => random.normal(2 * h * n * 8);
  const [q, k, v] = [make(4, 3), make(2, 40), make(2, 40)];
  const cache = {
    keys: tensorOf(k, [2, 2, 40, 8], dtype),
    values: tensorOf(v, [2, 2, 40, 8], dtype),
    lengths: tensor(keyLengths),
  };
  const [, lse] = attentionDecode(tensorOf(q, [2, 4, 3, 8], dtype), cache, { returnLse: true });
  expect(lse.dtype).toBe(wide);
  // Entry 1 has two keys for three tokens: the first of them sees none.
  expectClose(lse, attentionReference({ ...c, keyLengths }, q, k, v).lse, { absolute: tolerance });
});

describe('the key/value cache', () => {
  const filled = () => {
    const cache = new KvCache({ batch: 3, heads: 2, capacity: 6, headDim: 2, valueDim: 3 });
    const ramp = (n: number) => Float64Array.from({ length: n }, (_, i) => i);
    cache.append(tensorOf(ramp(48), [3, 2, 4, 2], 'f32'), tensorOf(ramp(72), [3, 2, 4, 3], 'f32'));
    return cache;
  };

  test('takes permuted views', () => {
    using cache = new KvCache({ batch: 1, heads: 2, capacity: 4, headDim: 2 });
    const x = tensorOf([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 2, 2], 'f32');
    cache.append(x.permute(0, 2, 1, 3), x.permute(0, 1, 3, 2));
    expect([...slice(cache.keys, 2, 0, 2).dataSync()]).toEqual([1, 2, 5, 6, 3, 4, 7, 8]);
    expect([...slice(cache.values, 2, 0, 2).dataSync()]).toEqual([1, 3, 2, 4, 5, 7, 6, 8]);
  });

  test('reorders batch entries for beam search', () => {
    using cache = filled();
    const before = values(slice(cache.keys, 2, 0, 4));
    cache.truncate(tensor(new Int32Array([4, 3, 2])));
    cache.reorder([2, 0, 0, 1]);
    expect([...cache.lengths.dataSync()]).toEqual([2, 4, 4, 3]);
    const after = values(slice(cache.keys, 2, 0, 4));
    expect(after.subarray(16, 32)).toEqual(before.subarray(0, 16));
    expect(after.subarray(32, 48)).toEqual(before.subarray(0, 16));
    expect(after.subarray(0, 4)).toEqual(before.subarray(32, 36));
  });

  test('truncates by a number', () => {
    using cache = filled();
    cache.truncate(3);
    expect([...cache.lengths.dataSync()]).toEqual([3, 3, 3]);
    cache.truncate(100);
    expect([...cache.lengths.dataSync()]).toEqual([3, 3, 3]);
    expect(() => cache.truncate(-1)).toThrow(/'length'.*-1/s);
  });

  test('an overflow poisons the cache and what is computed from it, until reset', async () => {
    using cache = filled();
    cache.append(zeros([3, 2, 3, 2]), zeros([3, 2, 3, 3]));
    const y = attentionDecode(zeros([3, 2, 1, 2]), cache);
    const message =
      /kvCacheAppend failed.*3 new tokens do not fit behind the 4 of batch entry 0 in a capacity of 6/;
    await expect(y.data()).rejects.toThrow(message);
    await expect(cache.lengths.data()).rejects.toThrow(message);
    cache.reset();
    cache.append(zeros([3, 2, 6, 2]), zeros([3, 2, 6, 3]));
    expect([...cache.lengths.dataSync()]).toEqual([6, 6, 6]);
  });

  test('survives tidy', () => {
    const cache = tidy(() => ({ cache: filled() }).cache);
    tidy(() => {
      cache.append(zeros([3, 2, 1, 2]), zeros([3, 2, 1, 3]));
      cache.reorder([0, 1]);
    });
    expect([...cache.lengths.dataSync()]).toEqual([5, 5]);
    cache.dispose();
    expect(() => cache.append(zeros([2, 2, 1, 2]), zeros([2, 2, 1, 3]))).toThrow(/disposed/);
  });

  test('refuses what does not fit', async () => {
    using cache = filled();
    expect(() => cache.append(zeros([3, 2, 1, 3]), zeros([3, 2, 1, 3]))).toThrow(
      /'k'.*\[3, 2, 1, 2\]/s,
    );
    expect(() => cache.append(zeros([3, 2, 1, 2]), zeros([3, 2, 2, 3]))).toThrow(
      /'v'.*\[3, 2, 1, 3\]/s,
    );
    expect(() => cache.append(zeros([3, 2, 1, 2], { dtype: 'bf16' }), zeros([3, 2, 1, 3]))).toThrow(
      /'k'.*bf16/s,
    );
    expect(() => attentionDecode(zeros([3, 3, 1, 2]), cache)).toThrow(/multiple/);
    expect(() => attentionDecode(zeros([3, 2, 1, 2], { dtype: 'f64' }), cache)).toThrow(
      /'k'.*f32.*f64/s,
    );
    // @ts-expect-error a misspelt option
    expect(() => attentionDecode(zeros([3, 2, 1, 2]), cache, { window: 3 })).toThrow(
      /'windowLeft'/,
    );
    expect(() => new KvCache({ batch: 1, heads: 1, capacity: 0, headDim: 4 })).toThrow(
      /'capacity'.*0/s,
    );
    cache.reorder([3]);
    await expect(cache.keys.data()).rejects.toThrow(/indices: 3 in batch entry 0/);
  });
});

describeCuda('the key/value cache on cuda', () => {
  // 16-byte runs, and rows that are not whole runs.
  test.each([
    [8, 16, 'f32'],
    [3, 5, 'f32'],
    [64, 64, 'bf16'],
    [7, 8, 'f16'],
  ] as const)('appends, truncates and reorders like the CPU, D %i, Dv %i, %s', (d, dv, dtype) => {
    const random = (shape: number[]) =>
      tensorOf(new Random(d).normal(shape.reduce((n, x) => n * x)), shape, dtype);
    expectSameOnCuda(
      (on, k, v, counts) => {
        const cache = new KvCache({
          batch: 3,
          heads: 2,
          capacity: 9,
          headDim: d,
          valueDim: dv,
          dtype,
          device: on,
        });
        const ordered = [k as Tensor, v as Tensor].map((x) => x.permute(0, 2, 1, 3));
        cache.append(ordered[0] as Tensor, ordered[1] as Tensor, { counts: counts as Tensor });
        cache.append(slice(ordered[0] as Tensor, 2, 1, 3), slice(ordered[1] as Tensor, 2, 1, 3));
        cache.truncate(5);
        const first = [
          cache.lengths.clone(),
          slice(cache.keys, 2, 0, 2),
          slice(cache.values, 2, 0, 2),
        ];
        cache.reorder([2, 0, 0, 1]);
        return [...first, cache.lengths, slice(cache.keys, 2, 0, 2), slice(cache.values, 2, 0, 2)];
      },
      [random([3, 4, 2, d]), random([3, 4, 2, dv]), tensor(Int32Array.from([4, 0, 2]))],
    );
  });

  test('what does not fit becomes NaN, and only that', () => {
    const on = device('cuda');
    using cache = new KvCache({ batch: 2, heads: 1, capacity: 4, headDim: 2, device: on });
    const ones = tensorOf(new Array(12).fill(1), [2, 1, 3, 2], 'f32').to(on);
    cache.append(ones, ones, { counts: tensor(Int32Array.from([3, 2])).to(on) });
    cache.append(slice(ones, 2, 0, 2), slice(ones, 2, 0, 2));
    expect([...cache.lengths.dataSync()]).toEqual([3, 4]);
    expect([...slice(cache.values, 2, 0, 3).dataSync()]).toEqual([
      ...[Number.NaN, Number.NaN, 1, 1, 1, 1],
      ...[1, 1, 1, 1, 1, 1],
    ]);
    cache.reorder([1, 7]);
    expect([...cache.lengths.dataSync()]).toEqual([4, 1]);
    expect([...slice(cache.keys, 2, 0, 1).dataSync()]).toEqual([1, 1, Number.NaN, Number.NaN]);
  });
});
