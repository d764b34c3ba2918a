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

  // By the kernels for f32, whatever the type.
  describe.each(['f32', 'bf16', 'f16'] as const)('over 128 dimensions in %s', (dtype) => {
    test.each<[number, number, Parameters<typeof sortedCase>[1]]>([
      [130, 66, {}],
      [192, 256, { rounds: 3, duplicates: 'corrected', self: 'lastResort', selfPenalty: 1e5 }],
      [256, 131, { rounds: 1, forward: 1, causal: false }],
      [20, 130, { pattern: 'window', window: 9 }],
      [256, 192, { pattern: 'global', lengths: [53, 20], hk: 4 }],
    ])('%d and %d', (d, dv, given) => {
      const shape = { b: 2, h: 4, hk: 2, d, dv, scale: 1 / Math.sqrt(d), causal: true };
      checkSorted(sortedCase(53, { ...shape, ...given }), dtype, 'cuda');
    });
  });

  test('says what it refuses', () => {
    expect(() => check(sortedCase(8, { rounds: 29, duplicates: 'corrected' }))).toThrow(
      /corrected over 29\. Use at most 28 rounds/,
    );
    const c = { pattern: 'global', duplicates: 'corrected' } as const;
    expect(() => check(sortedCase(8, { ...c, rounds: 16 }))).toThrow(/Use at most 15 rounds/);
    const many = { ...c, groups: 3000, sameGroup: true, chunk: 1 << 20 };
    expect(() => check(sortedCase(8, many))).toThrow(/3000 groups.* Use pattern 'chunk'/);
  });
});
