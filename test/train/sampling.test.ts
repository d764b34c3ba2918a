import { Random, sampleToken } from 'longspan';

const logits = [0, 3, 1, 2, -1];

function frequencies(options: Parameters<typeof sampleToken>[2], draws = 20_000): number[] {
  const random = new Random(5);
  const counts = logits.map(() => 0);
  for (let i = 0; i < draws; i++) counts[sampleToken(logits, random, options)]++;
  return counts.map((n) => n / draws);
}

function softmax(temperature: number, kept: readonly number[]): number[] {
  const weights = logits.map((z, i) => (kept.includes(i) ? Math.exp(z / temperature) : 0));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / total);
}

test.each([
  ['all', {}, 1, [0, 1, 2, 3, 4]],
  ['temperature', { temperature: 2 }, 2, [0, 1, 2, 3, 4]],
  ['top-k', { topK: 2 }, 1, [1, 3]],
  ['top-k beyond the vocabulary', { topK: 50 }, 1, [0, 1, 2, 3, 4]],
  // Softmax is 0.032, 0.636, 0.086, 0.234, 0.012.
  ['top-p', { topP: 0.9 }, 1, [1, 2, 3]],
  ['top-p below the likeliest', { topP: 0.1 }, 1, [1]],
  ['both', { topK: 3, topP: 0.8 }, 1, [1, 3]],
])('draws in proportion: %s', (_name, options, temperature, kept) => {
  const expected = softmax(temperature, kept);
  frequencies(options).forEach((share, i) => {
    if (expected[i] === 0) expect(share).toBe(0);
    else expect(Math.abs(share - expected[i])).toBeLessThan(0.015);
  });
});

test('temperature 0 takes the likeliest, the first of equal ones', () => {
  expect(sampleToken([1, 7, 7, 2], new Random(1), { temperature: 0 })).toBe(1);
  expect(sampleToken([Number.NEGATIVE_INFINITY, -5], new Random(1), { temperature: 0 })).toBe(1);
});

test('masked tokens are never drawn', () => {
  const random = new Random(2);
  const masked = [Number.NEGATIVE_INFINITY, 0, Number.NEGATIVE_INFINITY, 0];
  for (let i = 0; i < 200; i++) expect([1, 3]).toContain(sampleToken(masked, random));
});

test.each([
  ['NaN', [0, Number.NaN, 1]],
  ['NaN in front', [Number.NaN, 1]],
  ['infinity', [0, Number.POSITIVE_INFINITY]],
  ['nothing possible', [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]],
])('%s is a typed error with the remedy', (_name, broken) => {
  expect(() => sampleToken(broken, new Random(1))).toThrow(
    expect.objectContaining({
      code: 'ERR_OPERATOR_FAILED',
      remedy: expect.stringMatching(/checkpoint/),
    }),
  );
});

test.each([
  [{ temperature: -1 }, 'temperature'],
  [{ temperature: Number.NaN }, 'temperature'],
  [{ topK: 0 }, 'topK'],
  [{ topK: 1.5 }, 'topK'],
  [{ topP: 0 }, 'topP'],
  [{ topP: 1.1 }, 'topP'],
])('refuses %p', (options, argument) => {
  expect(() => sampleToken(logits, new Random(1), options)).toThrow(
    expect.objectContaining({ code: 'ERR_OPTION', argument }),
  );
});
