import {
  Generator,
  lshAttention,
  lshBuckets,
  lshRotations,
  normal,
  slice,
  tensor,
  zeros,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';

const random = (n: number, seed: number) =>
  normal([1, 2, n, 16], { generator: new Generator(seed) });
const given = { buckets: 4, rounds: 2, chunk: 16, causal: true } as const;
const seeded = () => ({ ...given, generator: new Generator(3) });

test('any length, equal and zero vectors', () => {
  for (const n of [1, 5, 97]) {
    const y = values(lshAttention(random(n, 1), random(n, 2), seeded()));
    expect(y.every(Number.isFinite)).toBe(true);
  }
  const v = random(50, 2);
  const y = lshAttention(zeros([1, 2, 50, 16]), v, seeded());
  // The first token sees itself alone, as does none after it: the second sees the first.
  expectClose(slice(y, 2, 0, 1), values(slice(v, 2, 0, 1)), { absolute: 1e-6 });
  expectClose(slice(y, 2, 1, 2), values(slice(v, 2, 0, 1)), { absolute: 1e-6 });
});

test('padding changes nothing and gives 0', () => {
  const [qk, v] = [random(60, 1), random(60, 2)];
  const lengths = tensor([37], { dtype: 'i32' });
  const y = lshAttention(qk, v, { ...seeded(), lengths });
  const cut = (x: typeof qk) => slice(x, 2, 0, 37);
  const alone = lshAttention(cut(qk), cut(v), seeded());
  expect([...values(slice(y, 2, 0, 37))]).toEqual([...values(alone)]);
  expect(values(slice(y, 2, 37, 60)).every((x) => x === 0)).toBe(true);
});

test('bad input is refused by name', () => {
  const [qk, v] = [random(20, 1), random(20, 2)];
  const call = (changed: object) => () => lshAttention(qk, v, { ...given, ...changed });
  for (const buckets of [0, 3, [2, 3]]) expect(call({ buckets })).toThrow("'buckets'");
  expect(call({ rounds: 0 })).toThrow("'rounds'");
  expect(call({ chunk: 0 })).toThrow("'chunk'");
  expect(call({ preset: 'other' })).toThrow("'preset'");
  expect(call({ chunking: 'other' })).toThrow("'chunking'");
  expect(call({ sameBucket: false })).toThrow("'sameBucket'");
  const rotations = lshRotations(qk, { buckets: 4, rounds: 2 });
  const bucketIds = lshBuckets(qk, { buckets: 4, rotations });
  expect(call({ rotations })).toThrow("'rounds'");
  expect(call({ bucketIds })).toThrow("'rounds'");
  const lengths = tensor([10], { dtype: 'i32' });
  expect(call({ bucketIds, rounds: undefined, lengths })).toThrow("'lengths'");
  expect(call({ bucketIds, rounds: undefined })).not.toThrow();
});
