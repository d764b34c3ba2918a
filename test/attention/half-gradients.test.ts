/**
 * Gradients in 16 bits with every option, on rows that bulk copies can read: a GPU of compute
 * capability 9.0 has kernels of its own for them (docs/attention.md), with tiles of 128 rows.
 */
import { type AttentionOptions, BlockMask, expand, Generator, slice, type Tensor } from 'longspan';
import { type AttentionCase, attentionGradients } from '../reference/attention.js';
import { expectClose, expectLowPrecision, rounded } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { dataOf, halfOptions, keptOf, normal, roundData, runCase, square } from './case.js';

type Half = 'f16' | 'bf16';

/** Every device against the twin by the rule for gradients, and twice the same bits. */
function check(
  c: AttentionCase,
  dtype: Half,
  options: (on: string) => AttentionOptions = () => ({}),
): void {
  const data = roundData(dataOf(c), dtype);
  const of = (round?: (x: number) => number) =>
    attentionGradients(c, data.q, data.k, data.v, data.gradO, data.gradLse, round);
  const truth = of();
  const naive = of((x) => rounded([x], dtype)[0] as number);
  for (const on of testDevices()) {
    const run = () => runCase(c, data, dtype, { on, options: options(on) });
    const got = run();
    for (const name of ['q', 'k', 'v', 'bias', 'sinks'] as const) {
      if ((name === 'bias' && !c.bias) || (name === 'sinks' && !c.sinks)) continue;
      const what = `gradient of ${name} on ${on}`;
      expectLowPrecision(got[name], truth[name], rounded(naive[name], dtype), {
        dtype,
        factor: 3,
        what,
      });
    }
    expect(run()).toEqual(got);
  }
}

const classes = [
  ['bf16', 64, 48],
  ['f16', 128, 96],
  ['bf16', 256, 200],
] as const;

describe('gradients of attention in 16 bits', () => {
  describe.each(classes)('%s, head dimensions %d and %d', (dtype, d, dv) => {
    const c = square(140, { m: 150, d, dv, hq: 1, hkv: 1 });

    test.each<[string, Partial<AttentionCase>]>([
      ...halfOptions,
      ['ALiBi, sinks', { alibiSlopes: [0.1], causal: true, sinks: [0.5] }],
    ])('%s', (_, options) => check({ ...c, ...options }, dtype));

    test('a bias', () => {
      const data = rounded(normal(21, 140 * 150), dtype);
      check({ ...c, bias: { data, shape: [1, 1, 140, 150] } }, dtype);
    });

    test('dropout', () => {
      check({ ...c, kept: keptOf(c, 77, 0.3) }, dtype, (on) => ({
        dropout: 0.3,
        generator: new Generator(77, on),
      }));
    });
  });

  // A GPU of compute capability 9.0 copies these first: odd rows, a value of another width than rows of
  // 16 bytes have, one head of keys expanded by a step of 0.
  test.each<[string, Partial<AttentionCase>]>([
    ['odd head dimensions', { d: 37, dv: 21 }],
    ['keys that can be read, values that cannot', { d: 64, dv: 70, hq: 2 }],
    ['over 128', { d: 131, dv: 129 }],
  ])('%s', (_, options) => {
    check({ ...square(70, { m: 90, hq: 1, hkv: 1, causal: true }), ...options }, 'bf16');
  });

  test.each(testDevices())('a head of keys for all, expanded, on %s', (on) => {
    const c = square(70, { m: 90, d: 24, dv: 24, hq: 3, hkv: 3 });
    const data = roundData(dataOf(c), 'f16');
    const one = (x: Float64Array) => Float64Array.from(x, (_, i) => x[i % (90 * 24)] as number);
    const same = { ...data, k: one(data.k), v: one(data.v) };
    const shared = (t: Tensor) =>
      t.shape[2] === 90 ? expand(slice(t, 1, 0, 1), [1, 3, 90, 24]) : t;
    const plain = runCase(c, same, 'f16', { on });
    const expanded = runCase(c, same, 'f16', { on, view: shared });
    // The forward pass may take another kernel: a rounding or two of 16 bits.
    for (const name of ['o', 'q'] as const)
      expectClose(expanded[name], plain[name], { absolute: 4e-3, relative: 2e-3 }, name);
  });

  test.each(testDevices())('no keys, or no queries, on %s', (on) => {
    for (const [n, m] of [
      [5, 0],
      [0, 5],
    ] as const) {
      const c = square(n, { m, d: 64, dv: 64, hq: 2, hkv: 1 });
      const got = runCase(c, dataOf(c), 'bf16', { on });
      expect([got.q, got.k, got.v].map((x) => x.length)).toEqual([2 * n * 64, m * 64, m * 64]);
      for (const x of [got.q, got.k, got.v]) expect(x.every((value) => value === 0)).toBe(true);
    }
  });

  test.each(['f16', 'bf16'] as const)('a block mask, %s', (dtype) => {
    const mask = BlockMask.local({ queries: 150, left: 70, blockSize: 32 });
    const shows = (_h: number, i: number, j: number) => mask.sees(i, j);
    const c = { ...square(150, { d: 64, dv: 64, hq: 1, hkv: 1 }), shows };
    check(c, dtype, () => ({ blockMask: mask }));
  });
});
