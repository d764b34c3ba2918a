import {
  attention,
  gradients,
  setNumThreads,
  slice,
  sortedAttention,
  type Tensor,
  tensor,
} from 'longspan';
import {
  type SortedCase,
  sortedGradients,
  sortedPairs,
  sortedReference,
} from '../reference/sorted-attention.js';
import { expectClose, expectLowPrecision, rounded, tensorOf, values } from '../support/compare.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';
import {
  checkSorted,
  randomGroups,
  ringCases,
  sortedCase,
  sortedData,
  sortedInputs,
  sortedOptions,
} from './sorted-case.js';

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
    for (const one of ringCases()) checkSorted(one, dtype);
    checkSorted(sortedCase(45, { ...c, b: 2, lengths: [45, 20], selfPenalty: 100 }), dtype);
    checkSorted(sortedCase(20, { pattern: 'global', chunk: 16, back: 1, forward: 1 }), dtype);
  });
});

const bytesOf = (t: Tensor): Buffer => {
  const { buffer, byteOffset, byteLength } = t.dataSync();
  return Buffer.from(buffer, byteOffset, byteLength);
};

/** One group that sees all of itself against exact attention. */
function expectExact(c: SortedCase): void {
  const data = sortedData(c, 'f32');
  const inputs = sortedInputs(c, data, 'f32');
  const found = sortedAttention(...inputs, sortedOptions(c)) as [Tensor, Tensor];
  const { causal = false, scale } = c;
  const exact = attention(...inputs, { causal, scale, returnLse: true });
  const upstream = tensorOf(data.gradO, exact[0].shape, 'f32');
  const grads = [found, exact].map(([o]) =>
    gradients([o], inputs, { gradients: [upstream], retainGraph: true }),
  ) as [Tensor[], Tensor[]];
  const bound = { absolute: 1e-5, relative: 1e-5 };
  expectClose(found[0], values(exact[0]), bound, 'o');
  expectClose(found[1], values(exact[1]), bound, 'lse');
  grads[0].forEach((g, i) => void expectClose(g, values(grads[1][i] as Tensor), bound, 'gradient'));
}

test('everything in one group is exact attention', () => {
  for (const causal of [false, true]) {
    const queryGroups = randomGroups({ b: 1, h: 2, rounds: 1, n: 150, groups: 1 }, 1, 0);
    expectExact(sortedCase(150, { groups: 1, queryGroups, pattern: 'group', causal, dv: 24 }));
  }
});

test('many keys in one group, more than a thread keeps', () => {
  const queryGroups = randomGroups({ b: 1, h: 1, rounds: 1, n: 2500, groups: 1 }, 1, 0);
  const base = sortedCase(2500, { groups: 1, queryGroups, h: 1, hk: 1, d: 8, dv: 8 });
  for (const given of [{ pattern: 'group' }, { chunk: 2500, causal: true }] as const) {
    expectExact({ ...base, ...given });
  }
});

test('several rounds of one group are one, once duplicates are corrected', () => {
  const queryGroups = randomGroups({ b: 1, h: 2, rounds: 4, n: 90, groups: 1 }, 1, 0);
  const c = sortedCase(90, { groups: 1, queryGroups, pattern: 'group', causal: true });
  const inputs = sortedInputs(c, sortedData(c, 'f32'), 'f32');
  const [o, lse] = sortedAttention(...inputs, {
    ...sortedOptions(c),
    duplicates: 'corrected',
  }) as [Tensor, Tensor];
  const exact = attention(...inputs, { causal: true, scale: c.scale, returnLse: true });
  expectClose(o, values(exact[0]), { absolute: 3e-6 }, 'o');
  expectClose(lse, values(exact[1]), { absolute: 3e-6 }, 'lse');
});

test('every pair that shares a group within reach is seen once in a round', () => {
  const c = sortedCase(200, { chunk: 16, causal: true, rounds: 3, groups: 4 });
  // Products of 0: each row's log-sum-exp counts its pairs.
  const zeros = { ...sortedData(c, 'f64'), q: new Float64Array(c.h * c.n * c.d) };
  const [, lse] = sortedAttention(...sortedInputs(c, zeros, 'f64'), sortedOptions(c));
  for (let h = 0; h < c.h; h++) {
    const counts = new Array(c.n).fill(0);
    for (const { i } of sortedPairs(c, 0, h)) counts[i]++;
    const found = [...values(lse)].slice(h * c.n, (h + 1) * c.n);
    expect(found.map((x) => Math.round(Math.exp(x)))).toEqual(counts);
  }
});

test.each(['bf16', 'f16'] as const)('rows and gradients in %s', (dtype) => {
  const given = { rounds: 3, causal: true, self: 'lastResort', selfPenalty: 1000 } as const;
  const c = sortedCase(70, { ...given, duplicates: 'corrected', h: 4 });
  const data = sortedData(c, dtype);
  const inputs = sortedInputs(c, data, dtype);
  const [o] = sortedAttention(...inputs, sortedOptions(c)) as [Tensor, Tensor];
  const naive = (x: Float64Array) => rounded(x, dtype);
  const truth = sortedReference(c, data).o;
  expectLowPrecision(o, truth, naive(truth), { dtype });
  const upstream = tensorOf(data.gradO, o.shape, dtype);
  const found = gradients([o], inputs, { gradients: [upstream] }) as Tensor[];
  const exact = sortedGradients(c, data, data.gradO);
  for (const [i, name] of (['q', 'k', 'v'] as const).entries()) {
    const expected = exact[name];
    const options = { dtype, factor: 3, what: name };
    expectLowPrecision(found[i] as Tensor, expected, naive(expected), options);
  }
});

test('gradients by finite differences', async () => {
  const c = sortedCase(30, { rounds: 2, causal: true, self: 'hidden', duplicates: 'corrected' });
  const options = sortedOptions(c);
  const inputs = sortedInputs(c, sortedData(c, 'f64'), 'f64').map((t) => t.detach());
  await checkGradients((q, k, v) => {
    // Rows that see nothing have no log-sum-exp to differentiate.
    const [o] = sortedAttention(q as Tensor, k as Tensor, v as Tensor, options);
    return o;
  }, inputs);
});

describe('what comes later', () => {
  /** Output rows before `changed` with other tokens, and other groups, from there on. */
  const rowsBefore = (given: Partial<SortedCase>, changed: number, seed: number): Buffer => {
    const base = sortedCase(150, { rounds: 2, causal: true, ...given });
    const other = randomGroups({ b: 1, h: 2, rounds: 2, n: 150, groups: 3 }, seed);
    const queryGroups = base.queryGroups.map((heads, b) =>
      heads.map((rounds, h) =>
        rounds.map((line, r) =>
          line.map((g, i) => (i < changed ? g : (other[b]?.[h]?.[r]?.[i] as number))),
        ),
      ),
    );
    const c = { ...base, queryGroups, keyGroups: queryGroups };
    const data = sortedData(c, 'f32');
    const random = new Random(seed);
    for (const x of [data.q, data.k, data.v]) {
      for (let i = 0; i < x.length; i++) {
        const token = Math.floor(i / c.d) % c.n;
        if (token >= changed) x[i] = Math.fround(random.normal(1)[0] as number);
      }
    }
    const [o] = sortedAttention(...sortedInputs(c, data, 'f32'), sortedOptions(c));
    return bytesOf(slice(o.detach(), 2, 0, changed).contiguous());
  };
  const differs = (given: Partial<SortedCase>): number => {
    let count = 0;
    for (const changed of [20, 77, 149]) {
      for (let seed = 20; seed < 24; seed++) {
        count += Number(!rowsBefore(given, changed, seed).equals(rowsBefore(given, changed, 9)));
      }
    }
    return count;
  };

  test('does not change a bit of a causal row', () => {
    const duplicates = 'corrected';
    expect(differs({ chunk: 8, self: 'lastResort', selfPenalty: 1000, duplicates })).toBe(0);
    expect(differs({ chunk: 40, back: 2 })).toBe(0);
    expect(differs({ pattern: 'window', window: 6 })).toBe(0);
    expect(differs({ pattern: 'group' })).toBe(0);
  });

  test('leaks where chunks are cut globally', () => {
    expect(differs({ pattern: 'global', chunk: 8 })).toBeGreaterThan(0);
  });
});

test('the same bits with any number of threads', () => {
  const all = (given: Partial<SortedCase>) => {
    const c = sortedCase(3000, { rounds: 3, h: 2, groups: 40, chunk: 32, ...given });
    const inputs = sortedInputs(c, sortedData(c, 'f32'), 'f32');
    const [o, lse] = sortedAttention(...inputs, sortedOptions(c)) as [Tensor, Tensor];
    const grads = gradients([o], inputs, {
      gradients: [o.detach()],
      retainGraph: true,
    }) as Tensor[];
    return Buffer.concat([o, lse, ...grads].map(bytesOf));
  };
  for (const given of [
    { causal: true, duplicates: 'corrected' },
    { h: 1, hk: 1 },
  ] as const) {
    const most = setNumThreads(1024); // gives as many as there are
    const first = all(given);
    for (let threads = 1; threads <= most; threads++) {
      setNumThreads(threads);
      expect(all(given).equals(first)).toBe(true);
    }
  }
});

describe('bad input', () => {
  const c = sortedCase(20);
  const [q, k, v] = sortedInputs(c, sortedData(c, 'f32'), 'f32');
  const options = sortedOptions(c);
  const call = (changed: object) => () => sortedAttention(q, k, v, { ...options, ...changed });

  test('is refused by name', () => {
    expect(call({ pattern: { kind: 'chunk', chunk: 0 } })).toThrow("'chunk' is 0");
    expect(call({ pattern: { kind: 'chunk', chunk: 4, back: -1 } })).toThrow("'back' is -1");
    expect(call({ pattern: { kind: 'window', window: 0 } })).toThrow("'window' is 0");
    expect(call({ pattern: { kind: 'window', window: 3 }, causal: false })).toThrow("'causal'");
    expect(call({ self: 'lastResort', selfPenalty: 1 })).toThrow("'selfPenalty' is 1");
    expect(call({ duplicates: 'sameRound' })).toThrow("'duplicates'");
    expect(call({ lengths: tensor([3], { dtype: 'i32' }) })).toThrow("'lengths'");
    expect(call({ scale: Number.NaN })).toThrow("'scale'");
    expect(call({ unknown: 1 })).toThrow('unknown');
  });

  test('orders that are none fail when the operator runs', () => {
    const twice = tensor(new Int32Array(2 * 2 * 20).fill(3), { shape: [1, 2, 2, 20] });
    const [o] = sortedAttention(q, k, v, {
      ...options,
      queries: { order: twice, offsets: options.queries.offsets },
    });
    expect(() => o.dataSync()).toThrow('queryOrder');
  });
});

test('rows that see only themselves keep their weights under a large penalty in f32', () => {
  for (const duplicates of ['counted', 'corrected'] as const) {
    for (const pattern of ['chunk', 'global'] as const) {
      const self = { self: 'lastResort', selfPenalty: 5e4 } as const;
      const c = sortedCase(40, { ...self, pattern, duplicates, causal: true, rounds: 4, chunk: 4 });
      const data = sortedData(c, 'f32');
      const inputs = sortedInputs(c, data, 'f32');
      const [o] = sortedAttention(...inputs, sortedOptions(c)) as [Tensor, Tensor];
      const upstream = tensorOf(data.gradO, o.shape, 'f32');
      const found = gradients([o], inputs, { gradients: [upstream] }) as Tensor[];
      const truth = sortedGradients(c, data, data.gradO);
      expectClose(found[2] as Tensor, truth.v, { absolute: 3e-6, relative: 3e-6 }, 'v');
    }
  }
});
