/**
 * Every option in 16 bits, forward, on rows that bulk copies can read: a GPU of compute capability 9.0
 * has kernels of its own for them (docs/attention.md). Tiles are 64 to 192 queries by 32 to 128 keys.
 */
import { type AttentionOptions, attention, BlockMask, Generator } from 'longspan';
import { type AttentionCase, attentionReference } from '../reference/attention.js';
import { expectClose, expectLowPrecision, rounded, tensorOf, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import {
  dataOf,
  halfOptions,
  keptOf,
  movedTo,
  normal,
  optionsOf,
  roundData,
  square,
} from './case.js';

type Half = 'f16' | 'bf16';

const round = {
  f16: (x: number) => rounded([x], 'f16')[0] as number,
  bf16: (x: number) => rounded([x], 'bf16')[0] as number,
};

/** Outputs and log-sum-exps; NaN in what padding must not use. */
function forward(
  on: 'cpu' | 'cuda',
  c: AttentionCase,
  dtype: Half,
  extra: AttentionOptions,
  layout: 'bhnd' | 'bnhd',
): { o: Float64Array; lse: Float64Array } {
  const data = roundData(dataOf(c), dtype);
  const place = (x: Float64Array, heads: number, tokens: number, dim: number) => {
    const t = tensorOf(x, [c.b, heads, tokens, dim], dtype);
    return (layout === 'bnhd' ? t.permute(0, 2, 1, 3).contiguous() : t).to(on);
  };
  const spoil = (x: Float64Array, heads: number, tokens: number, lengths?: ArrayLike<number>) => {
    if (!lengths) return x;
    const dim = x.length / (c.b * heads * tokens);
    return x.map((v, i) => {
      const row = Math.floor(i / dim);
      return row % tokens < (lengths[Math.floor(row / tokens / heads)] as number) ? v : Number.NaN;
    });
  };
  const given = movedTo(on, { ...optionsOf(c, 'f32', dtype), ...extra });
  const [o, lse] = attention(
    place(spoil(data.q, c.hq, c.n, c.queryLengths), c.hq, c.n, c.d),
    place(spoil(data.k, c.hkv, c.m, c.keyLengths), c.hkv, c.m, c.d),
    place(spoil(data.v, c.hkv, c.m, c.keyLengths), c.hkv, c.m, c.dv),
    { ...given, layout, returnLse: true },
  );
  return { o: values(layout === 'bnhd' ? o.permute(0, 2, 1, 3) : o), lse: values(lse) };
}

/** Every device against the twin, and twice the same bits. */
function check(
  c: AttentionCase,
  dtype: Half,
  extra: (on: string) => AttentionOptions = () => ({}),
  layout: 'bhnd' | 'bnhd' = 'bhnd',
): void {
  const data = roundData(dataOf(c), dtype);
  const truth = attentionReference(c, data.q, data.k, data.v);
  const naive = attentionReference(c, data.q, data.k, data.v, round[dtype]);
  for (const on of testDevices()) {
    const got = forward(on, c, dtype, extra(on), layout);
    expectLowPrecision(got.o, truth.o, rounded(naive.o, dtype), { dtype, what: `o on ${on}` });
    expectClose(got.lse, truth.lse, { absolute: 1e-4, relative: 1e-5 }, `lse on ${on}`);
    expect(forward(on, c, dtype, extra(on), layout)).toEqual(got);
  }
}

const classes = [
  ['f16', 64, 48],
  ['bf16', 128, 96],
  ['bf16', 256, 200],
] as const;

describe('attention in 16 bits', () => {
  describe.each(classes)('%s, head dimensions %d and %d', (dtype, d, dv) => {
    const c = square(140, { m: 150, d, dv, hq: 1, hkv: 1 });

    test.each<[string, Partial<AttentionCase>]>([
      ...halfOptions,
      ['no keys', { b: 2, n: 70, keyLengths: [0, 130] }],
      ['sinks', { causal: true, sinks: [0.5] }],
      ['ALiBi', { alibiSlopes: [0.1] }],
    ])('%s', (_, options) => check({ ...c, ...options }, dtype));

    test('a bias', () => {
      const data = rounded(normal(21, 140 * 150), dtype);
      check({ ...c, bias: { data, shape: [1, 1, 140, 150] } }, dtype);
    });

    test('tokens before heads', () => {
      check({ ...c, n: 70, hq: 2, hkv: 2, causal: true }, dtype, undefined, 'bnhd');
    });

    test('dropout', () => {
      check({ ...c, kept: keptOf(c, 77, 0.3) }, dtype, (on) => ({
        dropout: 0.3,
        generator: new Generator(77, on),
      }));
    });
  });

  test.each(['f16', 'bf16'] as const)('a block mask, %s', (dtype) => {
    const mask = BlockMask.local({ queries: 150, left: 70, blockSize: 32 });
    const shows = (_h: number, i: number, j: number) => mask.sees(i, j);
    const c = { ...square(150, { d: 64, dv: 64, hq: 1, hkv: 1 }), shows };
    check(c, dtype, () => ({ blockMask: mask }));
  });
});
