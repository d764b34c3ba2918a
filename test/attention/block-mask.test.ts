import {
  attention,
  BlockMask,
  gradients,
  type MaskPredicate,
  ones,
  type Tensor,
  tensor,
  zeros,
} from 'longspan';
import {
  type AttentionCase,
  attentionGradients,
  attentionReference,
} from '../reference/attention.js';
import { expectClose, expectLowPrecision, rounded, tensorOf, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { Random } from '../support/random.js';
import { check, dataOf, roundData, runCase, square } from './case.js';

const showsOf = (mask: BlockMask): AttentionCase['shows'] => {
  const table = new Map<number, boolean>();
  return (h, i, j, b) => {
    const [head, batch] = [mask.heads === 1 ? 0 : h, mask.batch === 1 ? 0 : b];
    const key = ((batch * mask.heads + head) * mask.queries + i) * mask.keys + j;
    const known = table.get(key);
    if (known !== undefined) return known;
    const shown = mask.sees(i, j, { head, batch });
    table.set(key, shown);
    return shown;
  };
};

/** Every pair of one head as the mask shows it. */
const dense = (mask: BlockMask, head = 0): number[][] =>
  Array.from({ length: mask.queries }, (_, i) =>
    Array.from({ length: mask.keys }, (_, j) => Number(mask.sees(i, j, { head }))),
  );

const expected = (n: number, m: number, sees: (i: number, j: number) => boolean): number[][] =>
  Array.from({ length: n }, (_, i) => Array.from({ length: m }, (_, j) => Number(sees(i, j))));

describe.each(testDevices())('predicates on %s', (device) => {
  const cases: [string, MaskPredicate, (i: number, j: number) => boolean][] = [
    ['causal', ({ at, j }) => j.atMost(at), (i, j) => j <= i + 7],
    ['a band', ({ i, j }) => i.minus(j).abs().below(9), (i, j) => Math.abs(i - j) < 9],
    [
      'stretches',
      ({ i, j }) => i.over(10).equals(j.over(10)),
      (i, j) => ((i / 10) | 0) === ((j / 10) | 0),
    ],
    [
      'remainders of negative numbers',
      ({ i, j }) => i.minus(j).mod(3).equals(1).or(i.minus(j).over(4).equals(-1)),
      (i, j) => (((i - j) % 3) + 3) % 3 === 1 || Math.floor((i - j) / 4) === -1,
    ],
    [
      'extremes, products, logic',
      ({ i, j }) =>
        i.min(j).times(2).above(40).and(i.max(j).atLeast(50).not()).or(j.plus(0).equals(3)),
      (i, j) => (Math.min(i, j) * 2 > 40 && Math.max(i, j) < 50) || j === 3,
    ],
    ['division by zero', ({ i, j }) => i.over(j.times(0)).equals(0), () => true],
    [
      'what wraps around at 32 bits',
      ({ i, j }) => i.times(0x7fff_ffff).plus(j.over(9)).over(-1).abs().below(0),
      (i, j) => Math.abs(-(Math.imul(i, 0x7fff_ffff) + ((j / 9) | 0)) | 0) > 0x7fff_ffff,
    ],
    ['nothing', ({ i }) => i.below(0), () => false],
  ];
  test.each(cases)('%s', (_, predicate, sees) => {
    for (const blockSize of [16, 32]) {
      const mask = BlockMask.where({ queries: 70, keys: 77, blockSize, device }, predicate);
      expect(dense(mask)).toEqual(expected(70, 77, sees));
      const pairs = expected(70, 77, sees).flat();
      expect(mask.density).toBeCloseTo(pairs.reduce((a, x) => a + x, 0) / pairs.length, 12);
      mask.dispose();
    }
  });

  test('by batch entry and head', () => {
    const mask = BlockMask.where(
      { queries: 20, blockSize: 16, heads: 3, batch: 2, device },
      ({ j, head, batch }) => j.equals(head.plus(batch.times(10))),
    );
    expect(mask.sees(5, 12, { head: 2, batch: 1 })).toBe(true);
    expect(mask.sees(5, 12, { head: 1, batch: 1 })).toBe(false);
  });
});

describe('masks on the host', () => {
  const random = (seed: number, blockSize = 16, heads = 1) => {
    const x = new Random(seed).normal(4 * 5);
    const layout = BlockMask.fromLayout(
      Array.from({ length: 4 }, (_, r) =>
        Array.from({ length: 5 }, (_, c) => Number((x[r * 5 + c] as number) > 0)),
      ),
      { queries: 60, keys: 70, blockSize },
    );
    const element = BlockMask.where({ queries: 60, keys: 70, blockSize, heads }, ({ i, j, head }) =>
      i
        .times(7)
        .plus(j.times(3))
        .plus(head)
        .mod(seed + 2)
        .equals(1)
        .or(j.below(i.minus(30))),
    );
    return layout.or(element);
  };

  test('and, or, not, pair by pair', () => {
    const [a, b] = [random(1), random(2, 16, 2)];
    for (const head of [0, 1]) {
      const [x, y] = [dense(a), dense(b, head)];
      const both = (f: (p: number, q: number) => number) =>
        x.map((row, i) => row.map((p, j) => f(p, (y[i] as number[])[j] as number)));
      expect(dense(a.and(b), head)).toEqual(both((p, q) => p & q));
      expect(dense(a.or(b), head)).toEqual(both((p, q) => p | q));
      expect(dense(b.not(), head)).toEqual(y.map((row) => row.map((q) => 1 - q)));
    }
    const all = a.or(a.not());
    expect([all.density, all.blockDensity, a.and(a.not()).blockDensity]).toEqual([1, 1, 0]);
  });

  test('one mask per head', () => {
    const [a, b] = [random(1), random(3)];
    const both = BlockMask.perHead([a, b]);
    expect([dense(both, 0), dense(both, 1)]).toEqual([dense(a), dense(b)]);
    expect(() => BlockMask.perHead([both])).toThrow(/'masks'/);
  });

  test('a matrix of pairs', () => {
    const matrix = new Random(4)
      .normal(2 * 40 * 50)
      .map((x, i) => (i % 50 < 16 ? 1 : Math.max(x, 0)));
    const pairs = tensorOf(matrix, [2, 40, 50], 'f32');
    const mask = BlockMask.fromPairs(pairs, { queries: 40, keys: 50, blockSize: 16 });
    for (const head of [0, 1]) {
      const seen = expected(40, 50, (i, j) => matrix[(head * 40 + i) * 50 + j] !== 0);
      expect(dense(mask, head)).toEqual(seen);
    }
    // The first column of blocks is seen as a whole.
    expect(Array.from(mask.toLists().fullKvNumBlocks.dataSync())).toEqual([1, 1, 1, 1, 1, 1]);
    expect(() => BlockMask.fromPairs([[1, 0]], { queries: 2 })).toThrow(/'pairs'.*2 by 2/s);
  });

  test('block-sparse rows', () => {
    const mask = BlockMask.fromBsr([0, 2, 2, 3], [0, 2, 1], { queries: 40, blockSize: 16 });
    expect(dense(mask)).toEqual(
      expected(40, 40, (i, j) => (i < 16 && (j < 16 || j >= 32)) || (i >= 32 && j >= 16 && j < 32)),
    );
    const make = (indptr: number[], indices: number[]) => () =>
      BlockMask.fromBsr(indptr, indices, { queries: 40, blockSize: 16 });
    expect(make([0, 1], [0])).toThrow(/'indptr'.*4 numbers/s);
    expect(make([0, 1, 1, 1], [3])).toThrow(/'indices'.*0 to 2/s);
    expect(make([0, 2, 1, 2], [0, 1])).toThrow(/'indptr'.*ascend/s);
  });

  test('the lists of other libraries', () => {
    const mask = random(5);
    const lists = mask.toLists();
    const [rows, columns] = [4, 5];
    const seen = new Map<string, number>();
    const read = (counts: Tensor, indices: Tensor, transposed: boolean, state: number) => {
      const [c, all] = [values(counts), values(indices)];
      const across = transposed ? rows : columns;
      c.forEach((count, line) => {
        for (let n = 0; n < count; n++) {
          const other = all[line * across + n] as number;
          const key = transposed ? `${other},${line}` : `${line},${other}`;
          seen.set(key, (seen.get(key) ?? 0) + state);
        }
      });
    };
    read(lists.kvNumBlocks, lists.kvIndices, false, 1);
    read(lists.fullKvNumBlocks, lists.fullKvIndices, false, 10);
    read(lists.qNumBlocks, lists.qIndices, true, 1);
    read(lists.fullQNumBlocks, lists.fullQIndices, true, 10);
    const pairs = dense(mask);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const block = pairs
          .slice(r * 16, r * 16 + 16)
          .flatMap((row) => row.slice(c * 16, c * 16 + 16));
        const sum = block.reduce((a, x) => a + x, 0);
        const state = sum === 0 ? undefined : sum === block.length ? 20 : 2;
        expect(seen.get(`${r},${c}`)).toBe(state);
      }
    }
  });

  test('saved, read again, drawn', () => {
    const mask = random(6, 16, 2);
    const read = BlockMask.fromTensors(mask.toTensors());
    expect([dense(read, 0), dense(read, 1)]).toEqual([dense(mask, 0), dense(mask, 1)]);
    const svg = mask.toSVG({ head: 1 });
    expect(svg).toMatch(/^<svg .*<title>60 queries by 70 keys in blocks of 16<\/title>/s);
    expect(svg).toContain('#9ecae1');
    expect(() => BlockMask.fromTensors({})).toThrow(/'tensors'/);
    const { states, lengths, bits } = mask.toTensors();
    expect(() =>
      BlockMask.fromTensors({ states: zeros([1, 1, 2, 2], { dtype: 'u8' }), lengths, bits }),
    ).toThrow(/'states'/);
    states.dispose();
  });
});

describe('named patterns', () => {
  const size = { queries: 90, blockSize: 16 };
  test('element by element', () => {
    expect(dense(BlockMask.local({ ...size, left: 20, right: 3 }))).toEqual(
      expected(90, 90, (i, j) => j >= i - 20 && j <= i + 3),
    );
    expect(dense(BlockMask.local({ ...size, keys: 100, left: 20 }))).toEqual(
      expected(90, 100, (i, j) => j >= i - 10 && j <= i + 10),
    );
    expect(dense(BlockMask.strided({ ...size, stride: 9, causal: true }))).toEqual(
      expected(90, 90, (i, j) => j <= i && (i - j < 9 || (i - j) % 9 === 0)),
    );
    expect(dense(BlockMask.fixed({ ...size, stride: 12, summary: 2, causal: true }))).toEqual(
      expected(90, 90, (i, j) => j <= i && (((i / 12) | 0) === ((j / 12) | 0) || j % 12 >= 10)),
    );
    expect(dense(BlockMask.longformer({ ...size, window: 10, globals: [0, 1, 40] }))).toEqual(
      expected(
        90,
        90,
        (i, j) => Math.abs(i - j) <= 5 || [i, j].some((x) => [0, 1, 40].includes(x)),
      ),
    );
  });

  test('block by block', () => {
    const butterfly = BlockMask.butterfly({ queries: 256, blockSize: 16 });
    expect(butterfly.blockDensity).toBe(5 / 16);
    const bird = BlockMask.bigBird({ queries: 320, blockSize: 16, random: 2, seed: 4 });
    const rows = dense(bird).filter((_, i) => i % 16 === 0);
    rows.forEach((row, r) => {
      const blocks = row.filter((_, j) => j % 16 === 0);
      const sum = blocks.reduce((a, x) => a + x, 0);
      if (r === 0) expect(sum).toBe(20);
      else expect(sum).toBeGreaterThanOrEqual(r === 1 || r === 19 ? 3 : 4);
      expect(sum).toBeLessThanOrEqual(r === 0 ? 20 : 6);
    });
    const causal = BlockMask.bigBird({ queries: 320, blockSize: 16, causal: true });
    expect(dense(causal).every((row, i) => row.every((x, j) => x === 0 || j <= i))).toBe(true);
  });
});

describe.each(testDevices())('attention under a block mask on %s', (on) => {
  /** The emulated GPU is slow, and has no f64. */
  const onCpu = on === 'cpu';
  const through = (c: AttentionCase, mask: BlockMask, dtype: 'f32' | 'f64' = 'f32') =>
    check({ ...c, shows: showsOf(mask) }, dtype, { options: { blockMask: mask }, on });

  test.each([16, 32, 64, 128])(
    'blocks of %d: partial, whole, hidden and empty rows',
    (blockSize) => {
      const [n, m] = onCpu ? [200, 270] : [140, 150];
      const mask = BlockMask.where({ queries: n, keys: m, blockSize }, ({ i, j }) =>
        i
          .over(blockSize)
          .equals(1)
          .not()
          .and(
            j
              .minus(i)
              .abs()
              .below(40)
              .or(
                j
                  .mod(blockSize * 2)
                  .below(blockSize)
                  .and(i.above(100)),
              ),
          ),
      );
      expect(mask.blockDensity).toBeLessThan(1);
      through(square(n, { m }), mask);
      if (onCpu) through(square(n, { m }), mask, 'f64');
      if (onCpu) through({ ...square(n, { m, causal: true, softcap: 4 }), hq: 4 }, mask);
    },
  );

  test('per head and per batch entry, with padding, bias, sinks and windows', () => {
    const n = onCpu ? 130 : 70;
    const mask = BlockMask.where(
      { queries: n, blockSize: 16, heads: 4, batch: 2 },
      ({ i, j, head, batch }) => i.plus(j).plus(head.times(17)).over(16).mod(3).equals(batch),
    );
    const bias = { data: new Random(3).normal(n * n), shape: [1, 1, n, n] as const };
    through(
      {
        ...square(n, { window: [n - 20, 50], keyLengths: [n, 57], queryLengths: [61, n] }),
        ...{ b: 2, hq: 4, hkv: 2, bias, sinks: [0, 1, -1, 2] },
      },
      mask,
    );
  });

  test.each([24, 200])('whole blocks alone, [B, N, H, D], 16 bits, %d dimensions', (d) => {
    const n = onCpu ? 250 : 130;
    const mask = BlockMask.butterfly({ queries: n, blockSize: 32 });
    const c = square(n, { d, dv: 40 });
    const options = { blockMask: mask };
    check({ ...c, shows: showsOf(mask) }, 'f32', {
      view: (t) => t.permute(0, 2, 1, 3),
      layout: 'bnhd',
      options,
      on,
    });
    const data = roundData(dataOf(c), 'bf16');
    const narrow = runCase(c, data, 'bf16', { options, on });
    const exact = runCase(c, data, 'f32', { options });
    for (const name of ['o', 'q', 'k', 'v'] as const) {
      const most = exact[name].reduce((a, x) => Math.max(a, Math.abs(x)), 1);
      expectClose(narrow[name], exact[name], { absolute: 0.02 * most }, name);
    }
  });

  // On a GPU by the kernels for f32.
  test.each([
    ['bf16', 130, 96, {}],
    ['f16', 192, 256, { causal: true, keyLengths: [53, 17], queryLengths: [61, 40] }],
    ['bf16', 256, 20, { window: [40, 30], alibiSlopes: [0.1, 0, 0.2, 0], sinks: [0, 1, -1, 2] }],
    ['f16', 64, 129, { scale: -0.2, softcap: 3 }],
  ] as const)('%s, head dimensions %d and %d', (dtype, d, dv, given) => {
    const [n, m] = [61, 53];
    const mask = BlockMask.where({ queries: n, keys: m, blockSize: 16, heads: 4 }, (x) =>
      x.i.plus(x.j).plus(x.head.times(17)).over(16).mod(3).equals(0).or(x.j.below(3)),
    );
    const bias = { data: rounded(new Random(3).normal(n), dtype), shape: [1, 1, n, 1] as const };
    const c = {
      ...{ ...square(n, { m, b: 2, hq: 4, hkv: 2, d, dv }), ...given },
      ...{ bias, shows: showsOf(mask) },
    };
    const data = roundData(dataOf(c), dtype);
    const round = (x: number) => rounded([x], dtype)[0] as number;
    const of = (by?: (x: number) => number) => ({
      ...attentionReference(c, data.q, data.k, data.v, by),
      ...attentionGradients(c, data.q, data.k, data.v, data.gradO, data.gradLse, by),
    });
    const [truth, naive] = [of(), of(round)];
    const got = runCase(c, data, dtype, { options: { blockMask: mask }, on });
    for (const name of ['o', 'q', 'k', 'v', 'bias', 'sinks'] as const) {
      if (name === 'sinks' && !('sinks' in given)) continue;
      const factor = name === 'o' ? 2 : 3;
      const rough = rounded(naive[name], dtype);
      expectLowPrecision(got[name], truth[name], rough, { dtype, factor, what: name });
    }
    expectClose(got.lse, truth.lse, { absolute: 1e-5, relative: 1e-5 }, 'lse');
    const config = { device: on, dtype, headDim: d, valueDim: dv, uses: ['blockMask'] } as const;
    expect(attention.supported(config)).toEqual({ supported: true });
  });

  test('everything seen equals no mask', () => {
    const c = square(100);
    const data = roundData(dataOf(c), 'f32');
    const mask = BlockMask.where({ queries: 100 }, ({ i }) => i.atLeast(0));
    const got = runCase(c, data, 'f32', { options: { blockMask: mask }, on });
    expectClose(got.o, runCase(c, data, 'f32', { on }).o, { absolute: 1e-6 }, 'o');
  });

  test('what a hidden key holds does not matter', () => {
    const mask = BlockMask.local({ queries: 256, blockSize: 32, left: 30, device: on });
    const x = tensorOf(new Random(1).normal(256 * 8), [1, 1, 256, 8], 'f32').to(on);
    const base = values(attention(x, x, x, { blockMask: mask }));
    const changed = values(x);
    changed.fill(1e30, 0, 64 * 8);
    const y = tensorOf(changed, [1, 1, 256, 8], 'f32').to(on);
    const other = values(attention(x, y, y, { blockMask: mask }));
    expect(other.subarray(128 * 8)).toEqual(base.subarray(128 * 8));
  });

  test('a graph keeps the mask', () => {
    const x = ones([1, 1, 64, 8], { device: on }).requireGrad();
    const mask = BlockMask.local({ queries: 64, left: 8, device: on });
    const y = attention(x, x, x, { blockMask: mask });
    mask.dispose();
    const upstream = ones([1, 1, 64, 8], { device: on });
    expect(() => gradients([y], [x], { gradients: [upstream] })).toThrow(/saved|disposed/);
  });
});

describe('what masks refuse', () => {
  const x = zeros([1, 2, 64, 8]);
  const mask = BlockMask.local({ queries: 64, left: 8 });
  const cases: [string, () => unknown, RegExp][] = [
    [
      'other lengths',
      () => attention(x, zeros([1, 2, 65, 8]), zeros([1, 2, 65, 8]), { blockMask: mask }),
      /'blockMask'.*64 queries and 65 keys/s,
    ],
    [
      'other heads',
      () => attention(x, x, x, { blockMask: BlockMask.perHead([mask, mask, mask]) }),
      /'maskRows'.*2 or 1 heads/s,
    ],
    // @ts-expect-error no mask
    ['something else', () => attention(x, x, x, { blockMask: 3 }), /'blockMask'.*BlockMask/s],
    [
      'packed sequences',
      () => attention(x, x, x, { blockMask: mask, cuSeqlens: [0, 64] }),
      /'maskRows'.*packed/s,
    ],
    [
      'a block size of 24',
      () => BlockMask.local({ queries: 9, left: 1, blockSize: 24 }),
      /'blockSize'/,
    ],
    ['no queries', () => BlockMask.local({ queries: 0, left: 1 }), /'queries'/],
    [
      'a misspelt option',
      () => BlockMask.local({ query: 9, left: 1 } as never),
      /query.*'queries'/s,
    ],
    ['a negative window', () => BlockMask.local({ queries: 9, left: -1 }), /'left'/],
    [
      'a predicate of another kind',
      () => BlockMask.where({ queries: 9 }, () => true as never),
      /'predicate'/,
    ],
    [
      'a fraction',
      () => BlockMask.where({ queries: 9 }, ({ i }) => i.below(0.5)),
      /'predicate'.*0.5/s,
    ],
    [
      'masks of other sizes',
      () => mask.and(BlockMask.local({ queries: 65, left: 8 })),
      /'other'.*65/s,
    ],
    [
      'a layout of other sizes',
      () => BlockMask.fromLayout([[1]], { queries: 90 }),
      /'layout'.*2 by 2/s,
    ],
  ];
  test.each(cases)('%s', (_, call, message) => {
    expect(call).toThrow(message);
  });

  test('steps that do not fit together', async () => {
    expect(tensor([1]).size).toBe(1);
    const deep =
      (n: number): MaskPredicate =>
      ({ i, j }) => {
        let value = i;
        for (let k = 0; k < n; k++) value = j.plus(value);
        return value.above(0);
      };
    expect(() => BlockMask.where({ queries: 9 }, deep(20))).toThrow(/'predicate'.*nested/s);
  });
});
