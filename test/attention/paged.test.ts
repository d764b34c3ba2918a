import {
  attentionDecode,
  type Device,
  device,
  KvCache,
  normal,
  OutOfMemoryError,
  PagedKvCache,
  slice,
  type Tensor,
  tensor,
  zeros,
} from 'longspan';
import { appendTokens } from '#lib/attention/kv-append';
import { type FloatType, tensorOf, values } from '../support/compare.js';
import { describeCuda, testDevices } from '../support/devices.js';
import { Random } from '../support/random.js';

const integers = (x: readonly number[], on: Device, shape?: number[]): Tensor =>
  tensor(Int32Array.from(x), shape ? { shape } : {}).to(on);

interface Shape {
  lengths: number[];
  heads: number;
  capacity: number;
  d: number;
  dv: number;
  pageSize: number;
}

/** A contiguous cache and the same in pages that lie in no order, among pages full of NaN. */
function bothCaches(s: Shape, dtype: FloatType, on: Device) {
  const random = new Random(31);
  const batch = s.lengths.length;
  const perEntry = Math.ceil(s.capacity / s.pageSize);
  const pages = batch * perEntry + 3;
  const order = random.permutation(pages);
  // Only pages that hold tokens are named.
  const table = s.lengths.flatMap((length, b) =>
    Array.from({ length: perEntry }, (_, i) =>
      i * s.pageSize < length ? (order[b * perEntry + i] as number) : -1,
    ),
  );
  const both = (width: number) => {
    const data = random.normal(batch * s.heads * s.capacity * width);
    const paged = new Float64Array(pages * s.heads * s.pageSize * width).fill(Number.NaN);
    for (let b = 0; b < batch; b++) {
      for (let j = 0; j < (s.lengths[b] as number); j++) {
        const page = table[b * perEntry + Math.floor(j / s.pageSize)] as number;
        for (let h = 0; h < s.heads; h++) {
          const from = ((b * s.heads + h) * s.capacity + j) * width;
          const to = ((page * s.heads + h) * s.pageSize + (j % s.pageSize)) * width;
          paged.set(data.subarray(from, from + width), to);
        }
      }
    }
    return [
      tensorOf(data, [batch, s.heads, s.capacity, width], dtype).to(on),
      tensorOf(paged, [pages, s.heads, s.pageSize, width], dtype).to(on),
    ] as const;
  };
  const [keys, pagedKeys] = both(s.d);
  const [cached, pagedValues] = both(s.dv);
  const lengths = integers(s.lengths, on);
  return {
    whole: { keys, values: cached, lengths },
    paged: {
      keys: pagedKeys,
      values: pagedValues,
      lengths,
      pageTable: integers(table, on, [batch, perEntry]),
    },
  };
}

describe.each(testDevices())('a paged cache on %s', (name) => {
  const on = device(name);

  test.each([
    [1, 'f32', {}],
    [3, 'f32', { windowLeft: 20 }],
    [16, 'bf16', {}],
    [64, 'f16', {}],
    [7, 'bf16', { windowLeft: 100 }],
    [100, 'f32', { softcap: 2 }],
  ] as const)(
    'of pages of %i in %s decodes to the bits of a contiguous one',
    (pageSize, dtype, options) => {
      for (const [d, dv, t] of [
        [16, 16, 1],
        [40, 72, 3],
        [33, 35, 1],
      ] as const) {
        const shape = { lengths: [200, 0, 77], heads: 2, capacity: 256, d, dv, pageSize };
        const { whole, paged } = bothCaches(shape, dtype, on);
        const q = tensorOf(new Random(5).normal(3 * 4 * t * d), [3, 4, t, d], dtype).to(on);
        const [a, b] = [whole, paged].map((cache) =>
          attentionDecode(q, cache, { ...options, returnLse: true }).map(values),
        );
        expect(b).toEqual(a);
        expect(a?.[0]?.some((x) => x !== 0)).toBe(true);
      }
    },
  );

  test('of many rows and splits, too', () => {
    const shape = { lengths: [1100, 900], heads: 1, capacity: 1200, d: 24, dv: 24, pageSize: 5 };
    const { whole, paged } = bothCaches(shape, 'f32', on);
    const q = tensorOf(new Random(6).normal(2 * 6 * 4 * 24), [2, 6, 4, 24], 'f32').to(on);
    const [a, b] = [whole, paged].map((cache) => values(attentionDecode(q, cache, { splits: 6 })));
    expect(b).toEqual(a);
  });

  test.each([1, 4, 6])('takes new tokens into pages of %i', (pageSize) => {
    const shape = { lengths: [5, 11, 0], heads: 2, capacity: 24, d: 8, dv: 4, pageSize };
    const { paged } = bothCaches({ ...shape, lengths: [24, 24, 24] }, 'f32', on);
    const contiguous = new KvCache({
      batch: 3,
      heads: 2,
      capacity: 24,
      headDim: 8,
      valueDim: 4,
      device: on,
    });
    const draw = (t: number, d: number) =>
      tensorOf(new Random(t * d).normal(3 * 2 * t * d), [3, 2, t, d], 'f32').to(on);
    for (const [t, taken] of [
      [11, [5, 11, 0]],
      [3, [3, 1, 2]],
      [1, [1, 0, 1]],
    ] as const) {
      const counts = integers(taken, on);
      const [k, v] = [draw(t, 8), draw(t, 4)];
      contiguous.append(k, v, { counts });
      if (t === 11) paged.lengths.write(Int32Array.of(0, 0, 0));
      appendTokens('test', paged, k, v, counts, undefined);
    }
    expect([...paged.lengths.dataSync()]).toEqual([9, 12, 3]);
    const q = draw(1, 8);
    expect(values(attentionDecode(q, paged))).toEqual(values(attentionDecode(q, contiguous)));
  });

  test('may name pages that no query sees', () => {
    const shape = { lengths: [60], heads: 1, capacity: 64, d: 8, dv: 8, pageSize: 4 };
    const { whole, paged } = bothCaches(shape, 'f32', on);
    const table = Int32Array.from(paged.pageTable.dataSync() as Int32Array);
    table.fill(1000, 0, 9); // keys 0 to 35; the query at 59 sees from 39 on
    paged.pageTable.write(table);
    const q = tensorOf(new Random(7).normal(8), [1, 1, 1, 8], 'f32').to(on);
    const [a, b] = [whole, paged].map((cache) =>
      values(attentionDecode(q, cache, { windowLeft: 20 })),
    );
    expect(b).toEqual(a);
  });
});

test('the log-sum-exp and f64 of a paged cache', () => {
  const shape = { lengths: [50, 21], heads: 2, capacity: 56, d: 6, dv: 5, pageSize: 7 };
  const { whole, paged } = bothCaches(shape, 'f64', device('cpu'));
  const q = tensorOf(new Random(8).normal(2 * 4 * 2 * 6), [2, 4, 2, 6], 'f64');
  const [a, b] = [whole, paged].map((cache) =>
    attentionDecode(q, cache, { returnLse: true }).map(values),
  );
  expect(b).toEqual(a);
});

describe('page tables that do not fit', () => {
  const shape = { lengths: [50, 21], heads: 1, capacity: 56, d: 8, dv: 8, pageSize: 7 };
  const q = () => tensorOf(new Random(9).normal(2 * 8), [2, 1, 1, 8], 'f32');

  test('shapes and types are refused at the call', () => {
    const { paged } = bothCaches(shape, 'f32', device('cpu'));
    const wrong = (pageTable: Tensor) => () => attentionDecode(q(), { ...paged, pageTable });
    expect(wrong(zeros([2, 8]))).toThrow(/'pageTable'.*i32/s);
    expect(wrong(zeros([3, 8], { dtype: 'i32' }))).toThrow(/'pageTable'.*\[2, 8\]/s);
    expect(wrong(zeros([16], { dtype: 'i32' }))).toThrow(/'pageTable'.*2/s);
    const empty = { ...paged, keys: zeros([4, 1, 0, 8]), values: zeros([4, 1, 0, 8]) };
    expect(() => attentionDecode(q(), empty)).toThrow(/pages of one token or more/);
  });

  test('the CPU reports pages and lengths out of range', async () => {
    const { paged } = bothCaches(shape, 'f32', device('cpu'));
    const table = Int32Array.from(paged.pageTable.dataSync() as Int32Array);
    for (const [page, text] of [
      [19, /19 as page 2 of batch entry 1.*0 to 18/],
      [-1, /-1 as page 2 of batch entry 1.*0 to 18/],
    ] as const) {
      table[8 + 2] = page;
      paged.pageTable.write(table);
      await expect(attentionDecode(q(), paged).data()).rejects.toThrow(text);
    }
    const k = zeros([2, 1, 1, 8]);
    paged.lengths.write(Int32Array.of(50, 14)); // whose next token would go to page 2
    appendTokens('test', paged, k, k, null, undefined);
    await expect(paged.keys.data()).rejects.toThrow(/kvCacheAppend failed.*-1 as page 2/);
    paged.lengths.write(Int32Array.of(57, 14));
    await expect(
      attentionDecode(q(), {
        ...bothCaches(shape, 'f32', device('cpu')).paged,
        lengths: integers([57, 14], device('cpu')),
      }).data(),
    ).rejects.toThrow(/length 57/);
  });

  describeCuda('on a GPU', () => {
    test.each(['f32', 'bf16'] as const)(
      'an entry with a lost page is NaN, and only that, in %s',
      (dtype) => {
        const on = device('cuda');
        const { whole, paged } = bothCaches(shape, dtype, on);
        const query = q().to(dtype).to(on);
        const table = Int32Array.from(paged.pageTable.dataSync() as Int32Array);
        const expected = values(attentionDecode(query, whole));
        for (const page of [19, -1, 2 ** 31 - 1, -(2 ** 31)]) {
          table[8 + 2] = page;
          paged.pageTable.write(table);
          for (const splits of [1, 3]) {
            const y = values(attentionDecode(query, paged, { splits }));
            expect(y.subarray(8).every(Number.isNaN)).toBe(true);
            expect(y.subarray(0, 8).every(Number.isFinite)).toBe(true);
            if (splits === 1) expect(y.subarray(0, 8)).toEqual(expected.subarray(0, 8));
          }
        }
      },
    );

    test('what does not fit is not written, and makes NaN', () => {
      const on = device('cuda');
      const { paged } = bothCaches(shape, 'f32', on);
      const before = values(paged.keys);
      paged.lengths.write(Int32Array.of(56, 28)); // full, and before a page that is not there
      const token = tensorOf(new Array(16).fill(1), [2, 1, 1, 8], 'f32').to(on);
      appendTokens('test', paged, token, token, null, undefined);
      expect([...paged.lengths.dataSync()]).toEqual([57, 29]);
      expect(values(paged.keys)).toEqual(before);
      expect(values(attentionDecode(q().to(on), paged)).every(Number.isNaN)).toBe(true);
    });
  });
});

/** Sequences of numbered tokens, as the cache should hold them. */
class Model {
  readonly rows: (number[] | null)[];
  #next = 1;
  constructor(readonly batch: number) {
    this.rows = new Array<null>(batch).fill(null);
  }
  fresh(count: number): number[] {
    return Array.from({ length: count }, () => this.#next++);
  }
}

describe.each(testDevices())('PagedKvCache on %s', (name) => {
  const on = device(name);

  /** What each row of the cache holds, read through its table. */
  function contents(cache: PagedKvCache): number[][] {
    const keys = cache.keys.dataSync() as Float32Array;
    const table = cache.pageTable.dataSync() as Int32Array;
    return [...cache.lengths.dataSync()].map((length, row) =>
      Array.from({ length: length as number }, (_, j) => {
        const page = table[row * cache.pagesPerEntry + Math.floor(j / cache.pageSize)] as number;
        return keys[page * cache.pageSize + (j % cache.pageSize)] as number;
      }),
    );
  }

  test.each([1, 3])('keeps sequences apart whatever is done to them, pages of %i', (pageSize) => {
    const random = new Random(pageSize);
    const pick = (n: number) => Math.floor(random.next() * n);
    const batch = 4;
    const pages = Math.ceil(24 / pageSize);
    using cache = new PagedKvCache({
      ...{ batch, pages, pageSize, heads: 1, headDim: 1, device: on },
    });
    const model = new Model(batch);
    let refused = 0;
    for (let step = 0; step < 120; step++) {
      const present = model.rows.flatMap((row, i) => (row ? [i] : []));
      const some = present[pick(present.length)] ?? 0;
      const action = pick(8);
      if (action === 0 && present.length < batch) model.rows[cache.admit()] = [];
      else if (action === 1 && present.length > 0 && present.length < batch) {
        model.rows[cache.fork(some)] = [...(model.rows[some] as number[])];
      } else if (action === 2 && present.length > 0) {
        cache.free(some);
        model.rows[some] = null;
      } else if (action === 3) {
        const limits = model.rows.map((row) => pick((row?.length ?? 0) + 2));
        cache.truncate(limits);
        model.rows.forEach((row, i) => void row?.splice(limits[i] as number));
      } else if (action === 4 && present.length > 0) {
        const parents = model.rows.map((row, i) =>
          row ? (present[pick(present.length)] as number) : i,
        );
        cache.reorder(parents);
        const next = parents.map((p) => (model.rows[p] ? [...(model.rows[p] as number[])] : null));
        model.rows.splice(0, batch, ...next);
      } else {
        const counts = model.rows.map((row) => (row ? pick(4) : 0));
        const tokens = counts.map((n) => model.fresh(n));
        const padded = tokens.flatMap((t) => [
          ...t,
          ...new Array<number>(3 - t.length).fill(Number.NaN),
        ]);
        const k = tensorOf(padded, [batch, 1, 3, 1], 'f32').to(on);
        const before = cache.freePages;
        try {
          cache.append(k, k, { counts });
          model.rows.forEach((row, i) => void row?.push(...(tokens[i] as number[])));
        } catch (error) {
          expect(error).toBeInstanceOf(OutOfMemoryError);
          expect(cache.freePages).toBe(before);
          refused++;
        }
        k.dispose();
      }
      expect(contents(cache)).toEqual(model.rows.map((row) => row ?? []));
      const table = cache.pageTable.dataSync() as Int32Array;
      const used = new Set([...table].filter((page) => page >= 0));
      expect(cache.freePages).toBe(pages - used.size);
    }
    expect(refused).toBeGreaterThan(0);
  });

  test('a step is recorded once and replayed while sequences grow, fork and end', () => {
    const sizes = { batch: 3, heads: 2, headDim: 8 };
    using paged = new PagedKvCache({ ...sizes, pages: 12, pageSize: 4, device: on });
    using twin = new PagedKvCache({ ...sizes, pages: 12, pageSize: 4, device: on });
    const draw = (seed: number) =>
      tensorOf(new Random(seed).normal(3 * 2 * 8), [3, 2, 1, 8], 'f32');
    const [q, k] = [draw(1).to(on), draw(2).to(on)];
    const both = (act: (cache: PagedKvCache) => unknown) =>
      [paged, twin].forEach((c) => void act(c));
    both((c) => c.admit());
    paged.advance(1);
    const graph = on.capture(() => {
      paged.write(k, k);
      return attentionDecode(q, paged);
    });
    for (let i = 0; i < 14; i++) {
      if (i > 0) {
        if (i === 3) both((c) => c.admit());
        if (i === 6) both((c) => c.fork(0));
        if (i === 11) both((c) => c.free(0));
        q.write(draw(3 * i).dataSync());
        k.write(draw(3 * i + 1).dataSync());
        paged.advance(1);
        graph.replay();
      }
      twin.append(k, k);
      expect(values(graph.result)).toEqual(values(attentionDecode(q, twin)));
    }
    expect([0, 1, 2].map((row) => paged.lengthOf(row))).toEqual([0, 11, 14]);
    graph.dispose();
  });

  test('the table has room for as many pages as it is told', () => {
    using cache = new PagedKvCache({
      batch: 2,
      pages: 9,
      pagesPerEntry: 2,
      pageSize: 4,
      heads: 1,
      headDim: 2,
      device: on,
    });
    cache.admit();
    const k = normal([2, 1, 8, 2], { device: on });
    cache.append(k, k);
    expect(() => cache.advance(1)).toThrow(
      /'counts' is 1 in row 0.*8 of at most 8.*pagesPerEntry/s,
    );
  });
});

describe('PagedKvCache refuses', () => {
  const options = { batch: 2, pages: 3, pageSize: 4, heads: 1, headDim: 2 };

  test('sizes and options that do not fit', () => {
    expect(() => new PagedKvCache({ ...options, pageSize: 0 })).toThrow(/'pageSize'.*0/s);
    expect(() => new PagedKvCache({ ...options, pages: 2.5 })).toThrow(/'pages'.*2.5/s);
    // @ts-expect-error a misspelt option
    expect(() => new PagedKvCache({ ...options, pagesize: 4 })).toThrow(/'pageSize'/);
  });

  test('more tokens than pages, and says what helps', () => {
    using cache = new PagedKvCache(options);
    cache.admit();
    const other = cache.admit();
    const k = normal([2, 1, 8, 2]);
    expect(() => cache.append(k, k)).toThrow(OutOfMemoryError);
    expect(() => cache.append(k, k)).toThrow(
      /4 pages are needed and 3 of 3 are free\. Free a sequence/,
    );
    cache.append(k, k, { counts: [8, 4] });
    expect(cache.freePages).toBe(0);
    cache.free(other);
    expect(cache.freePages).toBe(1);
  });

  test('caches beside each other share the pages, and nothing else', () => {
    using cache = new PagedKvCache(options);
    const other = cache.beside({ batch: 3, pagesPerEntry: 1 });
    cache.admit();
    other.admit();
    const [k, x] = [normal([2, 1, 5, 2]), normal([3, 1, 4, 2])];
    cache.append(k, k);
    other.append(x, x);
    expect([cache.freePages, other.freePages]).toEqual([0, 0]);
    expect([cache.heldPages, other.heldPages]).toEqual([2, 1]);
    expect(() => cache.append(k, k)).toThrow(OutOfMemoryError);
    expect(() => other.append(x, x)).toThrow(/at most 4 tokens/);
    const y = attentionDecode(slice(x, 2, 3, 4), other);
    using alone = new KvCache({ batch: 3, heads: 1, capacity: 4, headDim: 2 });
    alone.append(x, x, { counts: tensor(Int32Array.of(4, 0, 0)) });
    expect(values(y)).toEqual(values(attentionDecode(slice(x, 2, 3, 4), alone)));
    other.dispose();
    expect(cache.freePages).toBe(1);
    cache.append(slice(k, 2, 0, 4), slice(k, 2, 0, 4)); // into what the other held
    expect(cache.freePages).toBe(0);
  });

  test('rows that are not there, and counts of the wrong kind', () => {
    using cache = new PagedKvCache(options);
    expect(() => cache.free(0)).toThrow(/no sequence/);
    expect(() => cache.fork(2)).toThrow(/0 to 1/);
    cache.admit();
    cache.admit();
    expect(() => cache.admit()).toThrow(/all 2 rows.*larger batch/);
    cache.free(1);
    const k = normal([2, 1, 2, 2]);
    expect(() => cache.append(k, k, { counts: [1, 1] })).toThrow(/row 1.*no sequence/s);
    expect(() => cache.append(k, k, { counts: [1] })).toThrow(/'counts' is \[1\]/);
    expect(() => cache.append(k, k, { counts: 3 })).toThrow(/at most 2/);
    expect(() => cache.append(k, normal([2, 1, 2, 3]))).toThrow(/'v'/);
    // A call that is refused counts nothing.
    expect([cache.lengthOf(0), cache.freePages]).toEqual([0, 3]);
    expect(() => cache.truncate(-1)).toThrow(/'lengths'.*-1/s);
    expect(() => cache.reorder([1, 1])).toThrow(/no sequence/);
    cache.append(slice(k, 2, 0, 1), slice(k, 2, 0, 1));
    expect([...cache.lengths.dataSync()]).toEqual([1, 0]);
  });
});
