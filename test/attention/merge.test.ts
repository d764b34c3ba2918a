import { attention, gradients, mergeAttention, slice, type Tensor, zeros } from 'longspan';
import { expectClose, tensorOf, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const make = (seed: number, shape: number[], dtype: 'f32' | 'f64' | 'bf16' = 'f32') =>
  tensorOf(new Random(seed).normal(shape.reduce((a, n) => a * n, 1)), shape, dtype);

describe.each(testDevices())('mergeAttention on %s', (on) => {
  test.each([
    ['bhnd', [2, 3, 20, 8], 2],
    ['bnhd', [2, 20, 3, 8], 1],
  ] as const)('three parts are the whole, %s', (layout, shape, axis) => {
    const [q, k, v] = [1, 2, 3].map((seed) => make(seed, [...shape]).to(on)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const whole = attention(q, k, v, { layout, returnLse: true });
    const parts = [
      [0, 5],
      [5, 5],
      [5, 20],
    ].map(([from, to]) => {
      const part = (t: Tensor) => slice(t, axis, from as number, to as number);
      return attention(q, part(k), part(v), { layout, returnLse: true });
    });
    const merged = mergeAttention(parts, { layout });
    for (const i of [0, 1] as const) {
      expectClose(
        values(merged[i]),
        values(whole[i]),
        { absolute: 2e-6 },
        ['o', 'lse'][i] as string,
      );
    }
  });

  test('parts without keys alone', () => {
    const q = make(1, [1, 1, 3, 4]).to(on).requireGrad();
    const none = zeros([1, 1, 0, 4], { device: on });
    const part = attention(q, none, none, { returnLse: true });
    const [o, lse] = mergeAttention([part, part]);
    expect(values(o)).toEqual(new Float64Array(12));
    expect(values(lse)).toEqual(new Float64Array(3).fill(Number.NEGATIVE_INFINITY));
    const [grad] = gradients([o], [q], { gradients: [make(2, [1, 1, 3, 4]).to(on)] });
    expect(values(grad as Tensor)).toEqual(new Float64Array(12));
  });
});

test('gradients through the merge', async () => {
  const [k, v] = [make(5, [1, 2, 6, 4], 'f64'), make(6, [1, 2, 6, 3], 'f64')];
  await checkGradients(
    (q: Tensor) =>
      mergeAttention(
        [0, 2].map((from, i) =>
          attention(q, slice(k, 2, from, i ? 6 : 2), slice(v, 2, from, i ? 6 : 2), {
            returnLse: true,
          }),
        ),
      ),
    [make(7, [1, 2, 5, 4], 'f64')],
  );
});

test('one part in 16 bits stays what it is', () => {
  const x = make(1, [1, 2, 9, 8], 'bf16');
  const part = attention(x, x, x, { returnLse: true });
  const [o, lse] = mergeAttention([part]);
  expect(o.dtype).toBe('bf16');
  expect(values(o)).toEqual(values(part[0]));
  expectClose(values(lse), values(part[1]), { absolute: 1e-6 }, 'lse');
});

test('what it refuses', () => {
  const o = zeros([1, 2, 3, 4]);
  const lse = zeros([1, 2, 3]);
  expect(() => mergeAttention([])).toThrow(/'parts'.*at least one/s);
  expect(() => mergeAttention([[o, zeros([1, 3, 2])]])).toThrow(/'parts\[0\]'.*log-sum-exp/s);
  expect(() =>
    mergeAttention([
      [o, lse],
      [zeros([1, 2, 4, 4]), zeros([1, 2, 4])],
    ]),
  ).toThrow(/'parts\[1\]'/);
  expect(() => mergeAttention([[o, lse]], { layout: 'hnd' as never })).toThrow(/'layout'/);
});

describe('attention.supported', () => {
  test('says yes to what attention takes', () => {
    expect(
      attention.supported({ dtype: 'bf16', headDim: 256, queryHeads: 8, keyHeads: 2 }),
    ).toEqual({
      supported: true,
    });
  });

  test('gives every reason', () => {
    const answer = attention.supported({
      ...{ dtype: 'i32', headDim: 0, valueDim: 300, queryHeads: 6, keyHeads: 4 },
      uses: ['cuSeqlens', 'bias', 'causal'],
    });
    expect(answer.supported ? [] : answer.reasons).toEqual([
      expect.stringMatching(/dtype i32/),
      expect.stringMatching(/headDim 0/),
      expect.stringMatching(/valueDim 300/),
      expect.stringMatching(/6 query heads, 4 key heads/),
      expect.stringMatching(/bias with cuSeqlens/),
    ]);
    const other = attention.supported({ device: 'cuda:77' });
    expect(other.supported).toBe(false);
    expect(() => attention.supported({ dtyp: 'f32' } as never)).toThrow(/'dtype'/);
  });

  test('refuses what attention refuses', () => {
    const x = zeros([1, 3, 2, 4]);
    const y = zeros([1, 2, 2, 4]);
    expect(attention.supported({ queryHeads: 3, keyHeads: 2 }).supported).toBe(false);
    expect(() => attention(x, y, y)).toThrow(/multiple/);
  });
});
