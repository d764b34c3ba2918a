import { fitNgram, ngramBaselines } from 'longspan';

const bytes = (text: string) => new TextEncoder().encode(text);
const [a, b, c] = bytes('abc');

function pseudoText(length: number, seed: number): Uint8Array {
  let state = seed;
  let previous = 0;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // Three of four times the next letter is a function of the last one.
    previous = state >>> 30 ? (previous * 5 + 3) % 26 : (state >>> 8) % 26;
    return 97 + previous;
  });
}

describe('fitNgram', () => {
  test('unigram of "aab" with weight 1/2, by hand', () => {
    const model = fitNgram(bytes('aab'), 1, { weights: [0.5] });
    expect(model.probability(a)).toBeCloseTo(0.5 * (2 / 3) + 0.5 / 256, 15);
    expect(model.probability(b)).toBeCloseTo(0.5 * (1 / 3) + 0.5 / 256, 15);
    expect(model.probability(c)).toBeCloseTo(0.5 / 256, 15);
    const bits = -Math.log2(1 / 3 + 1 / 512) - Math.log2(1 / 6 + 1 / 512);
    expect(model.bitsPerByte(bytes('ab'))).toBeCloseTo(bits / 2, 12);
  });

  test('trigram of "abcabd" with weights 1/2, 1/4, 3/4, by hand', () => {
    const model = fitNgram(bytes('abcabd'), 3, { weights: [0.5, 0.25, 0.75] });
    const p1 = 0.5 * (1 / 6) + 0.5 / 256; // one c among six bytes
    const p2 = 0.25 * (1 / 2) + 0.75 * p1; // b is followed by c and d
    const p3 = 0.75 * (1 / 2) + 0.25 * p2; // so is a b
    expect(model.probability(c, [a, b])).toBeCloseTo(p3, 15);
    expect(model.probability(c, [b])).toBeCloseTo(p2, 15);
    expect(model.probability(c, [])).toBeCloseTo(p1, 15);
    expect(model.probability(c, [c, b])).toBeCloseTo(p2, 15); // c b never occurs: no third order
    expect(model.probability(c, [9, 9, a, b])).toBeCloseTo(p3, 15);
  });

  test('contexts do not cross from one piece of text to the next', () => {
    const weights = [0.5, 0.5];
    const apart = fitNgram([bytes('a'), bytes('b')], 2, { weights });
    expect(apart.probability(b, [a])).toBe(apart.probability(b));
    const together = fitNgram(bytes('ab'), 2, { weights });
    expect(together.probability(b, [a])).toBeGreaterThan(0.5);
  });

  test.each([1, 2, 3])('probabilities of order %i sum to 1 in every context', (order) => {
    const model = fitNgram(pseudoText(5000, 1), order);
    for (const context of [[], [a], [a, b], [0, 0], [255, 98], [98, 110], [120, 121]]) {
      let sum = 0;
      for (let byte = 0; byte < 256; byte++) sum += model.probability(byte, context);
      expect(sum).toBeCloseTo(1, 12);
    }
  });

  test('estimated weights come near the best fixed ones on unseen text', () => {
    const train = pseudoText(40_000, 1);
    const unseen = pseudoText(20_000, 77);
    const estimated = fitNgram(train, 2).bitsPerByte(unseen);
    let best = Number.POSITIVE_INFINITY;
    for (const w1 of [0.5, 0.9, 0.99, 0.999, 0.9999]) {
      for (const w2 of [0.5, 0.9, 0.99, 0.999, 0.9999]) {
        const fixed = fitNgram(train, 2, { weights: [w1, w2] }).bitsPerByte(unseen);
        best = Math.min(best, fixed);
      }
    }
    expect(estimated).toBeLessThan(best + 0.005);
  });

  test('on random bytes no order claims to know anything', () => {
    let state = 5;
    const noise = Uint8Array.from({ length: 200_000 }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    });
    const model = fitNgram(noise.subarray(0, 150_000), 3);
    expect(Math.abs(model.bitsPerByte(noise.subarray(150_000)) - 8)).toBeLessThan(0.02);
  });

  test('ngramBaselines gives the figures of the single models; files or one text', () => {
    const train = [pseudoText(8000, 1), pseudoText(9000, 2), pseudoText(7000, 3)];
    const validation = pseudoText(5000, 4);
    const { unigram, trigram } = ngramBaselines(train, validation);
    expect(unigram).toBe(fitNgram(train, 1).bitsPerByte(validation));
    expect(trigram).toBe(fitNgram(train, 3).bitsPerByte(validation));
    expect(trigram).toBeLessThan(unigram);
  });

  test('a text of one byte still gives a model', () => {
    expect(fitNgram(bytes('a'), 3).bitsPerByte(bytes('zz'))).toBeGreaterThan(8);
  });

  test('refuses what it cannot do', () => {
    const text = bytes('abc');
    expect(() => fitNgram(text, 4)).toThrow(/'order' is 4/);
    expect(() => fitNgram(new Uint8Array(0), 1)).toThrow(/'text' is empty/);
    expect(() => fitNgram(text, 1).bitsPerByte([])).toThrow(/'text' is empty/);
    expect(() => fitNgram(text, 2, { weights: [0.5] })).toThrow(/'weights' is \[0.5\]/);
    expect(() => fitNgram(text, 1, { heldOut: 1 })).toThrow(/'heldOut' is 1/);
    expect(() => fitNgram('abc' as never, 1)).toThrow(/'text' is 'abc'/);
  });
});
