import { checkSorted, randomGroups, sortedCase } from './sorted-case.js';

const dtypes = ['f64', 'f32'] as const;

describe.each(dtypes)('sorted attention against its twin in %s', (dtype) => {
  test('chunks inside groups', () => {
    checkSorted(sortedCase(67, { causal: true }), dtype);
    checkSorted(sortedCase(67, { forward: 1, b: 2 }), dtype);
    checkSorted(sortedCase(130, { chunk: 5, back: 2, forward: 1, rounds: 1, dv: 24 }), dtype);
    checkSorted(sortedCase(3, { causal: true }), dtype);
  });

  test('self pairs and duplicates', () => {
    for (const self of ['hidden', 'lastResort', 'penalised'] as const) {
      for (const duplicates of ['counted', 'corrected'] as const) {
        const c = { self, duplicates, selfPenalty: 100, rounds: 3, causal: true };
        checkSorted(sortedCase(50, c), dtype);
      }
    }
  });

  test('windows and whole groups, keys of their own', () => {
    const keyGroups = randomGroups({ b: 1, h: 4, rounds: 2, n: 60, groups: 3 }, 8);
    const queryGroups = randomGroups({ b: 1, h: 4, rounds: 2, n: 40, groups: 3 }, 9);
    const given = { h: 4, hk: 2, m: 60, queryGroups, keyGroups };
    checkSorted(sortedCase(40, { ...given, pattern: 'window', window: 7, causal: true }), dtype);
    checkSorted(sortedCase(40, { ...given, pattern: 'group' }), dtype);
    checkSorted(sortedCase(40, { ...given, pattern: 'group', causal: true }), dtype);
    checkSorted(sortedCase(90, { pattern: 'window', window: 9, causal: true }), dtype);
  });

  test('chunks over the orders of all rounds', () => {
    const c = { pattern: 'global', chunk: 8, causal: true, self: 'lastResort' } as const;
    for (const duplicates of ['counted', 'corrected', 'sameRound'] as const) {
      for (const sameGroup of [false, true]) {
        checkSorted(sortedCase(45, { ...c, selfPenalty: 100, duplicates, sameGroup }), dtype);
      }
    }
    checkSorted(sortedCase(45, { ...c, b: 2, lengths: [45, 20], selfPenalty: 100 }), dtype);
    checkSorted(sortedCase(20, { pattern: 'global', chunk: 16, back: 1, forward: 1 }), dtype);
  });
});
