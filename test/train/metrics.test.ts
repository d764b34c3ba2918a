import { corpusBleu, exactMatch } from 'longspan';

const words = (text: string) => text.split(' ');

describe('corpusBleu', () => {
  test('the paper: "the the the ..." has a clipped unigram precision of 2/7', () => {
    const score = corpusBleu(
      [words('the the the the the the the')],
      [[words('the cat is on the mat'), words('there is a cat on the mat')]],
      { maxOrder: 2 },
    );
    expect(score.precisions).toEqual([2 / 7, 0]);
    expect(score.score).toBe(0);
  });

  test('the paper: both candidates of its first example, unigram precisions 17/18 and 8/14', () => {
    const references = [
      words(
        'It is a guide to action that ensures that the military will forever heed Party commands',
      ),
      words(
        'It is the guiding principle which guarantees the military forces always being under the command of the Party',
      ),
      words('It is the practical guide for the army always to heed the directions of the party'),
    ];
    const first = words(
      'It is a guide to action which ensures that the military always obeys the commands of the party',
    );
    const second = words(
      'It is to insure the troops forever hearing the activity guidebook that party direct',
    );
    expect(corpusBleu([first], [references]).precisions[0]).toBeCloseTo(17 / 18, 15);
    expect(corpusBleu([first], [references]).precisions[1]).toBeCloseTo(10 / 17, 15);
    expect(corpusBleu([second], [references]).precisions[0]).toBeCloseTo(8 / 14, 15);
    expect(corpusBleu([second], [references]).precisions[1]).toBeCloseTo(1 / 13, 15);
  });

  test('score and brevity penalty by hand', () => {
    // All n-grams match; 5 tokens against 7.
    const short = corpusBleu([[1, 2, 3, 4, 5]], [[[1, 2, 3, 4, 5, 6, 7]]]);
    expect(short.brevityPenalty).toBeCloseTo(Math.exp(1 - 7 / 5), 15);
    expect(short.score).toBeCloseTo(Math.exp(-0.4), 15);
    // 1 2 3 4 9: 4/5, 3/4, 2/3, 1/2 match; the product is 1/5.
    const wrong = corpusBleu([[1, 2, 3, 4, 9]], [[[1, 2, 3, 4, 5]]]);
    expect(wrong.score).toBeCloseTo((1 / 5) ** 0.25, 15);
  });

  test('counts are summed over the corpus, not averaged', () => {
    const { precisions } = corpusBleu(
      [
        [1, 2],
        [3, 4, 5, 6],
      ],
      [[[1, 9]], [[3, 4, 5, 6]]],
      {
        maxOrder: 2,
      },
    );
    expect(precisions).toEqual([5 / 6, 3 / 4]);
  });

  test('the closest reference length counts, the shorter of two equally close', () => {
    const { referenceLength } = corpusBleu([[1, 2, 3, 4]], [[[1, 2, 3, 4, 5], [1, 2, 3], [1]]]);
    expect(referenceLength).toBe(3);
  });

  test('smoothing by hand', () => {
    // 1 2 9 8 against 1 2 3 4: matches 2/4, 1/3, 0/2, 0/1.
    const sentence = [[1, 2, 9, 8]];
    const reference = [[[1, 2, 3, 4]]];
    expect(corpusBleu(sentence, reference).score).toBe(0);
    expect(corpusBleu(sentence, reference, { smoothing: 'add-one' }).precisions).toEqual([
      2 / 4,
      2 / 4,
      1 / 3,
      1 / 2,
    ]);
    expect(corpusBleu(sentence, reference, { smoothing: 'exponential' }).precisions).toEqual([
      2 / 4,
      1 / 3,
      1 / 4,
      1 / 4,
    ]);
  });

  test('typed arrays, an empty candidate, a perfect one', () => {
    expect(corpusBleu([Int32Array.of(1, 2, 3, 4)], [[[1, 2, 3, 4]]]).score).toBe(1);
    expect(corpusBleu([[]], [[[1, 2]]])).toMatchObject({ score: 0, brevityPenalty: 0 });
  });

  test('refuses lists that do not fit together and unknown options', () => {
    expect(() => corpusBleu([[1]], [])).toThrow(/0 lists for 1 candidates/);
    expect(() => corpusBleu([[1]], [[]])).toThrow(/no reference for sentence 0/);
    expect(() => corpusBleu([], [])).toThrow(/'references'/);
    expect(() => corpusBleu([[1]], [[[1]]], { maxOrder: 0 })).toThrow(/'maxOrder' is 0/);
    expect(() => corpusBleu([[1]], [[[1]]], { smoothing: 'x' as 'none' })).toThrow(/'smoothing'/);
  });
});

test('exactMatch counts whole sequences', () => {
  expect(exactMatch([[1, 2], [3], [], ['a']], [[1, 2], [3, 4], [], ['a']] as never)).toBe(0.75);
  expect(exactMatch([Int32Array.of(1, 2)], [[1, 2]])).toBe(1);
  expect(() => exactMatch([], [])).toThrow(/'references'/);
  expect(() => exactMatch([[1]], [[1], [2]])).toThrow(/2 sequences for 1/);
});
