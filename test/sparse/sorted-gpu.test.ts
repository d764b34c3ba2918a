import { describeCuda } from '../support/devices.js';
import { checkSorted, randomGroups, ringCases, sortedCase } from './sorted-case.js';

describeCuda('sorted attention on a GPU against its twin', () => {
  const check = (c: Parameters<typeof checkSorted>[0]) => checkSorted(c, 'f32', 'cuda');

  test('chunks inside groups', () => {
    check(sortedCase(67, { causal: true }));
    check(sortedCase(67, { forward: 1, b: 2, d: 72, dv: 20 }));
    check(sortedCase(130, { chunk: 5, back: 2, forward: 1, rounds: 1, d: 65, dv: 63 }));
    check(sortedCase(3, { causal: true }));
    check(sortedCase(200, { causal: true, chunk: 32, groups: 2, d: 128, dv: 128 }));
  });

  test('self pairs and duplicates', () => {
    for (const self of ['hidden', 'lastResort', 'penalised'] as const) {
      for (const duplicates of ['counted', 'corrected'] as const) {
        for (const selfPenalty of [100, 1e5]) {
          const c = { self, duplicates, selfPenalty, rounds: 3, causal: true };
          check(sortedCase(self === 'penalised' ? 90 : 50, c));
        }
      }
    }
  });

  test('windows and whole groups, keys of their own', () => {
    const keyGroups = randomGroups({ b: 1, h: 4, rounds: 2, n: 60, groups: 3 }, 8);
    const queryGroups = randomGroups({ b: 1, h: 4, rounds: 2, n: 40, groups: 3 }, 9);
    const given = { h: 4, hk: 2, m: 60, queryGroups, keyGroups };
    check(sortedCase(40, { ...given, pattern: 'window', window: 7, causal: true }));
    check(sortedCase(40, { ...given, pattern: 'group' }));
    check(sortedCase(40, { ...given, pattern: 'group', causal: true }));
    check(sortedCase(90, { pattern: 'window', window: 9, causal: true }));
  });

  test('chunks over the orders of all rounds', () => {
    const c = { pattern: 'global', chunk: 8, causal: true, self: 'lastResort' } as const;
    for (const duplicates of ['counted', 'corrected', 'sameRound'] as const) {
      check(sortedCase(45, { ...c, selfPenalty: 100, duplicates }));
    }
    for (const duplicates of ['counted', 'corrected', 'sameRound'] as const) {
      check(sortedCase(45, { ...c, selfPenalty: 1e5, sameGroup: true, duplicates }));
    }
    for (const one of ringCases()) check(one);
    check(sortedCase(45, { ...c, b: 2, lengths: [45, 20], selfPenalty: 100 }));
    check(sortedCase(20, { pattern: 'global', chunk: 16, back: 1, forward: 1 }));
  });

  test('says what it refuses', () => {
    expect(() => check(sortedCase(8, { d: 130 }))).toThrow(
      /q: a head dimension of 130\. Use at most 128 on a GPU/,
    );
    expect(() => check(sortedCase(8, { rounds: 33, duplicates: 'corrected' }))).toThrow(
      /corrected over 33\. Use at most 32 rounds/,
    );
    const c = { pattern: 'global', duplicates: 'corrected' } as const;
    expect(() => check(sortedCase(8, { ...c, rounds: 16 }))).toThrow(/Use at most 15 rounds/);
    const many = { ...c, groups: 3000, sameGroup: true, chunk: 1 << 20 };
    expect(() => check(sortedCase(8, many))).toThrow(/3000 groups.* Use pattern 'chunk'/);
  });
});
