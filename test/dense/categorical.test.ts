import {
  categorical,
  type Device,
  device,
  Generator,
  OperatorError,
  permute,
  type Tensor,
  tensor,
  zeros,
} from 'longspan';
import { logSumExp } from '../reference/cross-entropy.js';
import { philoxWords } from '../reference/philox.js';
import { tensorOf, values } from '../support/compare.js';
import { describeCuda, expectSameOnCuda } from '../support/devices.js';
import { Random } from '../support/random.js';

const list = (t: Tensor) => Array.from(values(t));
const infinity = Number.POSITIVE_INFINITY;

/** The definition: sort, cut, invert. */
function draw(
  logits: readonly number[],
  u: number,
  { temperature = 1, topK = 0, topP = 1 }: { temperature?: number; topK?: number; topP?: number },
): number {
  const order = logits
    .map((_, v) => v)
    .sort((a, b) => {
      return (logits[b] as number) - (logits[a] as number) || a - b;
    });
  if (temperature === 0) return order[0] as number;
  let kept = topK > 0 ? order.slice(0, topK) : order;
  const weights = (of: readonly number[]) => {
    const x = of.map((v) => (logits[v] as number) / temperature);
    const lse = logSumExp(x);
    return x.map((v) => Math.exp(v - lse));
  };
  if (topP < 1) {
    let held = 0;
    const w = weights(kept);
    const count = w.findIndex((p) => {
      held += p;
      return held >= topP;
    });
    kept = kept.slice(0, count < 0 ? kept.length : count + 1);
  }
  if (topK === 0 && topP === 1) kept = logits.map((_, v) => v);
  const w = weights(kept);
  let held = 0;
  const at = w.findIndex((p) => {
    held += p;
    return held > u;
  });
  return kept[at] as number;
}

describe.each([5, 97, 1000])('%d classes', (classes) => {
  const rows = 64;
  const x = Float64Array.from(new Float32Array(new Random(classes).normal(rows * classes, 0, 2)));
  const words = philoxWords(12n, 0n, 4 * rows);
  test.each([
    {},
    { temperature: 0 },
    { temperature: 0.7 },
    { topK: 3 },
    { topP: 0.8 },
    { topP: 0.999, temperature: 1.5 },
    { topK: 4, topP: 0.5, temperature: 2 },
    { topK: 5000 },
    { topK: 1 },
  ])('%j follows its definition', (options) => {
    const logits = tensorOf(x, [rows, classes], 'f32');
    const ids = categorical(logits, { ...options, generator: new Generator(12) });
    expect(ids.dtype).toBe('i32');
    const expected = Array.from({ length: rows }, (_, row) => {
      const [a, b] = [words[4 * row] as number, words[4 * row + 1] as number];
      const u = ((a >>> 5) * 2 ** 26 + (b >>> 6)) * 2 ** -53;
      const { topK = 0 } = options as { topK?: number };
      const effective = topK >= classes ? { ...options, topK: 0 } : options;
      return draw(Array.from(x.slice(row * classes, (row + 1) * classes)), u, effective);
    });
    expect(list(ids)).toEqual(expected);
  });
});

test('frequencies are the probabilities', () => {
  const p = [0.5, 0.2, 0.2, 0.1];
  const n = 40000;
  const logits = tensor(
    Float32Array.from({ length: 4 * n }, (_, i) => Math.log(p[i % 4] as number)),
    {
      shape: [n, 4],
    },
  );
  const counts = [0, 0, 0, 0];
  for (const id of list(categorical(logits, { generator: new Generator(1) }))) {
    counts[id] = (counts[id] as number) + 1;
  }
  counts.forEach((c, i) => {
    expect(Math.abs(c / n - (p[i] as number))).toBeLessThan(0.01);
  });
});

test('seeds repeat, draws differ, the state moves by a block a row', () => {
  const logits = zeros([3, 100]);
  const generator = new Generator(2);
  const first = list(categorical(logits, { generator }));
  const second = list(categorical(logits, { generator }));
  expect(second).not.toEqual(first);
  expect(generator.stateSync().words).toEqual([2, 0, 6, 0]);
  expect(list(categorical(logits, { generator: new Generator(2) }))).toEqual(first);
});

test('any rank, view and floating dtype', () => {
  const x = new Random(3).normal(2 * 3 * 5);
  for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
    const t = tensorOf(x, [2, 3, 5], dtype);
    const view = permute(t, [2, 1, 0]);
    const ids = categorical(view, { generator: new Generator(4) });
    expect(ids.shape).toEqual([5, 3]);
    expect(list(ids)).toEqual(
      list(categorical(view.contiguous(), { generator: new Generator(4) })),
    );
  }
  expect(categorical(tensor([0, 5, 5]), { temperature: 0 }).itemSync()).toBe(1);
  expect(categorical(zeros([0, 3])).shape).toEqual([0]);
});

test('masked classes are never drawn', () => {
  const logits = zeros([500, 3]);
  const masked = tensor(list(logits).map((v, i) => (i % 3 === 1 ? -infinity : v))).reshape(500, 3);
  const ids = new Set([
    ...list(categorical(masked)),
    ...list(categorical(masked, { topK: 3, topP: 0.99 })),
  ]);
  expect([...ids].sort()).toEqual([0, 2]);
});

test('logits that cannot be drawn from fail, and the generator goes on', async () => {
  const generator = new Generator(5);
  const bad = categorical(
    tensor([
      [0, 1],
      [2, Number.NaN],
    ]),
    { generator },
  );
  await expect(bad.data()).rejects.toThrow(OperatorError);
  expect(() => bad.dataSync()).toThrow(/categorical.*logits.*row 1 is NaN at class 1/);
  expect(() => categorical(tensor([infinity, 0])).dataSync()).toThrow(
    /row 0 is Infinity at class 0/,
  );
  expect(() => categorical(tensor([[-infinity]]), { temperature: 0 }).dataSync()).toThrow(
    /row 0 is -Infinity everywhere/,
  );
  expect(categorical(tensor([0, 1]), { generator }).dataSync()).toHaveLength(1);
});

test('wrong arguments are named', () => {
  const logits = zeros([2, 3]);
  expect(() => categorical(logits, { temperature: -1 })).toThrow(/'temperature' is -1/);
  expect(() => categorical(logits, { temperature: Number.NaN })).toThrow(/'temperature' is NaN/);
  expect(() => categorical(logits, { topP: 0 })).toThrow(/'topP' is 0/);
  expect(() => categorical(logits, { topK: -1 })).toThrow(/'topK' is -1/);
  expect(() => categorical(logits, { topK: 1.5 })).toThrow(/'topK' is 1\.5/);
  expect(() => categorical(zeros([2, 0]))).toThrow(/classes/);
  expect(() => categorical(logits, { top_k: 1 } as never)).toThrow(/Did you mean 'topK'/);
});

describeCuda('on cuda', () => {
  const given = (t: Tensor | undefined) => t as Tensor;
  const seeded = (on: Device) => new Generator(31, on);
  // One and several pieces of classes; the sorted ways through one tile, selection and merging.
  test.each([5, 97, 5000])('draws from %d classes as the CPU does', (classes) => {
    const x = new Random(classes).normal(6 * classes, 0, 2);
    for (const dtype of ['f32', 'bf16', 'f16'] as const) {
      const logits = tensorOf(x, [6, classes], dtype);
      for (const options of [
        {},
        { temperature: 0 },
        { temperature: 0.7 },
        { topK: 3 },
        { topK: 1 },
        { topP: 0.8 },
        { topP: 0.999, temperature: 1.5 },
        { topK: 4, topP: 0.5, temperature: 2 },
        { topK: 5000 },
      ]) {
        expectSameOnCuda(
          (on, t) => categorical(given(t), { ...options, generator: seeded(on) }),
          [logits],
        );
      }
    }
  });

  test('views, equal logits, masked classes; what cannot be drawn from', () => {
    const x = tensorOf(new Random(3).normal(30), [2, 3, 5], 'f32');
    expectSameOnCuda(
      (on, t) => categorical(permute(given(t), [2, 1, 0]), { generator: seeded(on) }),
      [x],
    );
    for (const options of [{}, { topK: 3, topP: 0.99 }, { topP: 0.5 }]) {
      expectSameOnCuda(
        (on, t) => categorical(given(t), { ...options, generator: seeded(on) }),
        [
          tensor(Array.from({ length: 60 }, (_, i) => (i % 3 === 1 ? -infinity : 0))).reshape(
            20,
            3,
          ),
        ],
      );
    }
    const bad = tensor([
      [0, Number.NaN],
      [infinity, 0],
      [-infinity, -infinity],
      [-infinity, 0],
    ]).to(device('cuda'));
    const ids = categorical(bad, { generator: seeded(bad.device) });
    expect(list(ids)).toEqual([-1, -1, -1, 1]);
  });
});
