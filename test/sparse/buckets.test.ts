import {
  ArgumentError,
  bucketSort,
  Generator,
  lshBuckets,
  lshRotations,
  normal,
  permute,
  type Tensor,
  tensor,
} from 'longspan';
import { bucketOrder, lshBucket } from '../reference/sparse.js';
import { tensorOf, values } from '../support/compare.js';
import { describeCuda, expectSameOnCuda, testDevices } from '../support/devices.js';
import { Random } from '../support/random.js';

const list = (t: Tensor) => [...values(t)];

describe('bucketSort', () => {
  const lengths = [0, 1, 2, 37, 1000, 5001];

  test.each(testDevices())('sorts by (group, position), padding last, on %s', (device) => {
    for (const n of lengths) {
      for (const count of [1, 3, 300]) {
        const groups = [...new Random(n + count).integers(3 * n, -2, count + 2)];
        const t = tensor(groups, { shape: [3, n], dtype: 'i32', device });
        const { order, offsets, inverse } = bucketSort(t, count, { inverse: true });
        expect(offsets.shape).toEqual([3, count + 1]);
        const [all, begins, places] = [order, offsets, inverse as Tensor].map(list) as number[][];
        for (let line = 0; line < 3; line++) {
          const expected = bucketOrder(groups.slice(line * n, (line + 1) * n), count);
          const found = all?.slice(line * n, (line + 1) * n) as number[];
          expect(found).toEqual(expected.order);
          expect(begins?.slice(line * (count + 1), (line + 1) * (count + 1))).toEqual(
            expected.offsets,
          );
          // A bijection, and its inverse.
          expect([...found].sort((a, b) => a - b)).toEqual(found.map((_, i) => i));
          found.forEach(
            (position, place) => void expect(places?.[line * n + position]).toBe(place),
          );
        }
      }
    }
  });

  test('lines of any stride', () => {
    const groups = tensor([0, 1, 1, 0, 2, 0], { shape: [3, 2], dtype: 'i32' });
    const { order } = bucketSort(permute(groups, [1, 0]), 3);
    expect(list(order)).toEqual([0, 1, 2, 1, 2, 0]);
  });

  test('equal groups keep their order', () => {
    const { order } = bucketSort(tensor(new Array(500).fill(7), { dtype: 'i32' }), 9);
    expect(list(order)).toEqual(Array.from({ length: 500 }, (_, i) => i));
  });

  test('bad input is refused', () => {
    const groups = tensor([0, 1], { dtype: 'i32' });
    expect(() => bucketSort(groups, 0)).toThrow("bucketSort: 'count' is 0");
    expect(() => bucketSort(tensor([1, 2]), 2)).toThrow(/'groups' is f32\[2\]. Use i32/);
    expect(() => bucketSort(groups, 2, { invers: true } as object)).toThrow("mean 'inverse'");
  });
});

describe('lshBuckets', () => {
  /** Compares with the reference where the winner of each product is clear. */
  function expectBuckets(x: Tensor, rotations: Tensor, factors: readonly number[], slack: number) {
    const [batch, heads, n, dim] = x.shape as [number, number, number, number];
    const [own, rounds, , columns] = rotations.shape as [number, number, number, number];
    const found = lshBuckets(x, { buckets: factors, rotations });
    expect(found.shape).toEqual([batch, heads, rounds, n]);
    expect(found.dtype).toBe('i32');
    const [data, turns, buckets] = [x, rotations, found].map(values) as Float64Array[];
    let [close, wrong] = [0, 0];
    buckets?.forEach((bucket, i) => {
      const [t, r] = [i % n, Math.floor(i / n) % rounds];
      const head = Math.floor(i / n / rounds);
      const row = [...(data as Float64Array).slice((head * n + t) * dim, (head * n + t + 1) * dim)];
      const first = ((own === 1 ? 0 : head % heads) * rounds + r) * dim;
      const expected = lshBucket(
        row,
        (d, c) => turns?.[(first + d) * columns + c] as number,
        factors,
      );
      if (expected.margin < slack) close++;
      else if (bucket !== expected.bucket) wrong++;
    });
    expect(wrong).toBe(0);
    expect(close).toBeLessThan(buckets.length / 50 + 1);
  }

  const cases: [shape: number[], factors: number[], rounds: number][] = [
    [[1, 1, 1, 3], [2], 1],
    [[2, 3, 70, 16], [8], 2],
    [[1, 2, 129, 64], [16, 16], 4],
    [[1, 1, 33, 5], [6, 10, 4], 3],
    [[1, 2, 64, 7], [26], 1],
  ];

  test.each(testDevices())('are the argmax of [x R, -x R] on %s', (device) => {
    for (const [shape, factors, rounds] of cases) {
      for (const dtype of ['f32', 'f64', 'f16', 'bf16'] as const) {
        if (device === 'cuda' && dtype === 'f64') continue;
        const x = normal(shape, { generator: new Generator(3), dtype }).to(device);
        const generator = new Generator(4, device);
        const rotations = lshRotations(x, { buckets: factors, rounds, generator });
        expectBuckets(x, rotations, factors, dtype === 'f64' ? 1e-13 : 1e-4);
      }
    }
  });

  test('any stride, rotations shared by heads or given as a view', () => {
    const x = normal([2, 50, 3, 8], { generator: new Generator(5) });
    const heads = permute(x, [0, 2, 1, 3]);
    const rotations = normal([1, 2, 5, 8], { generator: new Generator(6) });
    expectBuckets(heads, permute(rotations, [0, 1, 3, 2]), [4, 6], 1e-5);
  });

  test('equal seeds give equal rotations on every device', () => {
    for (const device of testDevices()) {
      const x = normal([1, 2, 4, 8], { generator: new Generator(1) }).to(device);
      const generator = new Generator(9, device);
      const drawn = lshRotations(x, { buckets: 64, rounds: 2, generator });
      expect(drawn.shape).toEqual([2, 2, 8, 8]);
      expect(list(drawn)).toEqual(list(normal([2, 2, 8, 8], { generator: new Generator(9) })));
      expect(
        list(lshBuckets(x, { buckets: 64, rounds: 2, generator: new Generator(9, device) })),
      ).toEqual(list(lshBuckets(x, { buckets: 64, rotations: drawn })));
    }
  });

  test.each(testDevices())(
    'only directions count; zeros and ties take the first on %s',
    (device) => {
      const x = normal([1, 1, 40, 8], { generator: new Generator(2) });
      const scaled = tensorOf(
        values(x).map((v) => v * 64),
        x.shape,
        'f32',
      );
      const rotations = lshRotations(x, { buckets: 16, generator: new Generator(3) }).to(device);
      const of = (t: Tensor) => list(lshBuckets(t.to(device), { buckets: 16, rotations }));
      expect(of(scaled)).toEqual(of(x));
      expect(of(tensorOf(new Float64Array(320), [1, 1, 40, 8], 'f32'))).toEqual(
        new Array(40).fill(0),
      );
      const equal = tensorOf(new Float64Array(320).fill(0.3), [1, 1, 40, 8], 'f32');
      expect(new Set(of(equal)).size).toBe(1);
    },
  );

  test.each(testDevices())('padding has a bucket of its own on %s', (device) => {
    const x = normal([3, 2, 70, 4], { generator: new Generator(1) });
    const data = values(x);
    const at = (b: number, h: number, t: number) => ((b * 2 + h) * 70 + t) * 4;
    for (let t = 5; t < 70; t++) data[at(1, 0, t)] = Number.NaN; // padding may hold anything
    const poisoned = tensorOf(data, x.shape, 'f32').to(device);
    const lengths = tensor([70, 5, 0], { dtype: 'i32', device });
    const generator = new Generator(3, device);
    const buckets = lshBuckets(poisoned, { buckets: [4, 4], rounds: 2, lengths, generator });
    list(buckets).forEach((bucket, i) => {
      const inside = i % 70 < ([70, 5, 0][Math.floor(i / 280)] as number);
      if (inside) expect(bucket).toBeLessThan(16);
      else expect(bucket).toBe(16);
    });
  });

  test('close vectors share buckets more often than distant ones', () => {
    const generator = new Generator(8);
    const x = normal([1, 1, 2000, 16], { generator });
    const noise = normal([1, 1, 2000, 16], { generator, std: 0.2 });
    const shift = values(noise);
    const near = tensorOf(
      values(x).map((v, i) => v + (shift[i] as number)),
      x.shape,
      'f32',
    );
    const far = normal([1, 1, 2000, 16], { generator });
    const rotations = lshRotations(x, { buckets: 64, generator });
    const [a, b, c] = [x, near, far].map((t) => list(lshBuckets(t, { buckets: 64, rotations })));
    const shared = (p: number[], q: number[]) => p.filter((bucket, i) => bucket === q[i]).length;
    expect(shared(a as number[], b as number[])).toBeGreaterThan(800);
    expect(shared(a as number[], c as number[])).toBeLessThan(80);
  });

  test('bad input is refused', () => {
    const x = normal([1, 1, 4, 8]);
    expect(() => lshBuckets(x, { buckets: 7 })).toThrow("lshBuckets: 'buckets' is 7. Use an even");
    expect(() => lshBuckets(x, { buckets: 0 })).toThrow(ArgumentError);
    expect(() => lshBuckets(x, { buckets: [4, 3] })).toThrow(/even number/);
    expect(() => lshBuckets(x, { buckets: 4, rounds: 0 })).toThrow("'rounds' is 0");
    expect(() => lshBuckets(normal([4, 8]), { buckets: 4 })).toThrow(/\[B, H, N, D\]/);
    const rotations = normal([1, 1, 8, 3]);
    expect(() => lshBuckets(x, { buckets: 4, rotations })).toThrow(/shape \[1, 1, 8, 2\]/);
    expect(() => lshBuckets(x, { buckets: 6, rotations, rounds: 2 })).toThrow(/for 1 rounds/);
    const lengths = tensor([1, 2], { dtype: 'i32' });
    expect(() => lshBuckets(x, { buckets: 4, lengths })).toThrow(/'lengths' .*shape \[1\]/);
    expect(() => lshBuckets(x, { bucket: 4 } as never)).toThrow("mean 'buckets'");
    const bad = tensor([1, Number.NaN, 3, 4], { shape: [1, 1, 2, 2] });
    expect(() => lshBuckets(bad, { buckets: 4 }).dataSync()).toThrow(/head 0, token 0/);
  });
});

describeCuda('on cuda', () => {
  test('orders are those of the CPU', () => {
    const groups = tensor(new Random(1).integers(4 * 3000, 0, 70), {
      shape: [2, 2, 3000],
      dtype: 'i32',
    });
    expectSameOnCuda(
      (_, g) => {
        const { order, offsets } = bucketSort(g as Tensor, 70);
        return [order, offsets];
      },
      [groups],
    );
  });
});
