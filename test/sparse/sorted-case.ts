/** Running sorted attention on the cases of its twin. */
import {
  bucketSort,
  gradients,
  type SortedAttentionOptions,
  type SortedPattern,
  sortedAttention,
  type Tensor,
  tensor,
} from 'longspan';
import {
  type SortedCase,
  sortedGradients,
  sortedReference,
} from '../reference/sorted-attention.js';
import { epsilon, expectClose, type FloatType, rounded, tensorOf } from '../support/compare.js';
import { Random } from '../support/random.js';

/** Random groups, [b][h][round][token]; some tokens in none. */
export function randomGroups(
  { b, h, rounds, n, groups }: { b: number; h: number; rounds: number; n: number; groups: number },
  seed = 3,
  least = -1,
): number[][][][] {
  const random = new Random(seed);
  const lines = (count: number, make: () => unknown) => Array.from({ length: count }, make);
  return lines(b, () =>
    lines(h, () => lines(rounds, () => [...random.integers(n, least, groups)])),
  ) as number[][][][];
}

/** A case of self-attention: groups of queries are those of keys. */
export function sortedCase(
  n: number,
  { rounds = 2, ...given }: Partial<SortedCase> & { rounds?: number } = {},
): SortedCase {
  const shape = { b: 1, h: 2, hk: 2, n, m: n, d: 16, dv: 16, scale: 0.3, groups: 3, ...given };
  const queryGroups = given.queryGroups ?? randomGroups({ ...shape, rounds });
  return {
    pattern: 'chunk',
    chunk: 8,
    back: 1,
    queryGroups,
    keyGroups: given.keyGroups ?? queryGroups,
    ...shape,
  };
}

/**
 * Duplicates of pattern `global` with orders of their own: chunks that see a part of the ring, some of it around its
 * ends and in their own round again, and all of it.
 */
export function ringCases(): SortedCase[] {
  const given = { pattern: 'global', chunk: 9, duplicates: 'corrected' } as const;
  return [1, 4].flatMap((groups) => {
    const shape = { b: 1, h: 2, rounds: 3, n: 45, groups };
    const own = { queryGroups: randomGroups(shape, 8), keyGroups: randomGroups(shape, 9) };
    return [1, 5, 11, 30].flatMap((back) =>
      [false, true].map((sameGroup) =>
        sortedCase(45, { ...given, ...own, groups, back, sameGroup }),
      ),
    );
  });
}

export interface SortedData {
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  gradO: Float64Array;
  gradLse: Float64Array;
}

export function sortedData(c: SortedCase, dtype: FloatType, seed = 5): SortedData {
  const random = new Random(seed);
  const make = (size: number) => rounded(random.normal(size), dtype);
  return {
    q: make(c.b * c.h * c.n * c.d),
    k: make(c.b * c.hk * c.m * c.d),
    v: make(c.b * c.hk * c.m * c.dv),
    gradO: make(c.b * c.h * c.n * c.dv),
    gradLse: rounded(random.normal(c.b * c.h * c.n), dtype === 'f64' ? 'f64' : 'f32'),
  };
}

export function sortedOptions(c: SortedCase, device = 'cpu'): SortedAttentionOptions {
  const sorted = (groups: number[][][][]) => {
    const shape = [
      c.b,
      c.h,
      groups[0]?.[0]?.length as number,
      groups[0]?.[0]?.[0]?.length as number,
    ];
    const flat = groups.flat(3);
    return bucketSort(tensor(Int32Array.from(flat), { shape }).to(device), c.groups);
  };
  const queries = sorted(c.queryGroups);
  const { chunk = 1, back = 0, forward = 0, window = 1, sameGroup = false } = c;
  const pattern = {
    chunk: { kind: 'chunk', chunk, back, forward },
    global: { kind: 'global', chunk, back, forward, sameGroup },
    window: { kind: 'window', window },
    group: { kind: 'group' },
  }[c.pattern] as SortedPattern;
  return {
    queries,
    ...(c.keyGroups !== c.queryGroups && { keys: sorted(c.keyGroups) }),
    ...{ pattern, causal: c.causal ?? false, scale: c.scale },
    ...(c.self && { self: c.self }),
    ...(c.selfPenalty !== undefined && { selfPenalty: c.selfPenalty }),
    ...(c.duplicates && { duplicates: c.duplicates }),
    ...(c.lengths && { lengths: tensor(c.lengths, { dtype: 'i32' }).to(device) }),
  };
}

export function sortedInputs(
  c: SortedCase,
  data: SortedData,
  dtype: FloatType,
  device = 'cpu',
): [Tensor, Tensor, Tensor] {
  const make = (x: Float64Array, heads: number, tokens: number, dim: number) =>
    tensorOf(x, [c.b, heads, tokens, dim], dtype).to(device).requireGrad();
  return [make(data.q, c.h, c.n, c.d), make(data.k, c.hk, c.m, c.d), make(data.v, c.hk, c.m, c.dv)];
}

/** Output, log-sum-exps and gradients against the twin. */
export function checkSorted(
  c: SortedCase,
  dtype: FloatType = 'f32',
  device = 'cpu',
  tolerance = { f64: 1e-11, f32: 3e-5, f16: 4 * epsilon.f16, bf16: 4 * epsilon.bf16 }[dtype],
): void {
  const bound = { absolute: tolerance, relative: tolerance };
  const exact = Math.min(tolerance, 3e-5);
  const statistic = { absolute: exact, relative: exact }; // f32 beside 16 bits
  const data = sortedData(c, dtype);
  const expected = sortedReference(c, data);
  const [q, k, v] = sortedInputs(c, data, dtype, device);
  const options = { ...sortedOptions(c, device), returnRoundLse: true };
  const [o, lse, roundLse] = sortedAttention(q, k, v, options) as [Tensor, Tensor, Tensor];
  expectClose(o, expected.o, bound, 'o');
  expectClose(lse, expected.lse, statistic, 'lse');
  expectClose(roundLse, expected.roundLse, statistic, 'roundLse');
  const gradLse = data.gradLse.map((x, i) => (Number.isFinite(expected.lse[i]) ? x : 0));
  const found = gradients([o, lse], [q, k, v], {
    gradients: [
      tensorOf(data.gradO, o.shape, dtype).to(device),
      tensorOf(gradLse, lse.shape, lse.dtype).to(device),
    ],
  });
  const truth = sortedGradients(c, data, data.gradO, gradLse);
  expectClose(found[0] as Tensor, truth.q, bound, 'gradQ');
  expectClose(found[1] as Tensor, truth.k, bound, 'gradK');
  expectClose(found[2] as Tensor, truth.v, bound, 'gradV');
}
