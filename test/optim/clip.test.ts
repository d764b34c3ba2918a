import {
  ArgumentError,
  clipCoefficient,
  clipGradNorm,
  clipGradValue,
  gradNorm,
  ones,
  type Tensor,
  tensor,
  transpose,
} from 'longspan';
import { clampTensors, scaleTensors } from '#lib/dense/optimizer';
import { expectClose, type FloatType, rounded, tensorOf, values } from '../support/compare.js';
import { describeCuda } from '../support/devices.js';
import { Random } from '../support/random.js';

const random = new Random(2);
const lengths = [5, 16384 * 2 + 77, 600];
const host = lengths.map((n) => random.normal(n));
const list = (t: Tensor) => Array.from(values(t));

/** Parameters with gradients, strided ones among them. */
const params = (dtype: FloatType) =>
  host.map((g) => {
    const p = tensorOf(g, [g.length], dtype).requireGrad();
    p.grad = tensorOf(g, [g.length], dtype);
    return p;
  });

test.each(['f64', 'f32', 'bf16', 'f16'] as const)('norms of all elements in %s', (dtype) => {
  const grads = host.map((g) => tensorOf(g, [g.length], dtype));
  const all = host.flatMap((g) => Array.from(rounded(g, dtype)));
  const { norm, nonFinite } = gradNorm(grads);
  const expected = Math.sqrt(all.reduce((sum, x) => sum + x * x, 0));
  expectClose(norm, [expected], { relative: dtype === 'f64' ? 1e-13 : 1e-7 });
  expect(norm.dtype).toBe(dtype === 'f64' ? 'f64' : 'f32');
  expect(nonFinite.itemSync()).toBe(0);
  const largest = gradNorm(grads, { order: Number.POSITIVE_INFINITY }).norm;
  expectClose(largest, [Math.max(...all.map(Math.abs))], { relative: 1e-7 });
  expectClose(gradNorm(grads, { scale: tensor([-0.5]) }).norm, [expected / 2], { relative: 1e-7 });
});

test('infinite and NaN elements are reported', () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    for (const order of [2, Number.POSITIVE_INFINITY] as const) {
      const { norm, nonFinite } = gradNorm([ones([3]), tensor([1, bad])], { order });
      expect(nonFinite.itemSync()).toBe(1);
      expect(norm.itemSync()).toBe(bad);
    }
  }
});

test('large magnitudes do not overflow', () => {
  const { norm, nonFinite } = gradNorm([tensor([3e30, 4e30])]);
  expect(norm.itemSync() / 5e30).toBeCloseTo(1, 6);
  expect(nonFinite.itemSync()).toBe(0);
});

test('the coefficient', () => {
  expect(clipCoefficient(tensor([5]), 1).itemSync()).toBeCloseTo(0.2, 6);
  expect(clipCoefficient(tensor([0.5]), 1).itemSync()).toBe(1);
  expect(clipCoefficient(tensor([0]), 1).itemSync()).toBe(1);
  expect(clipCoefficient(tensor([5]), 1, tensor([0.5])).itemSync()).toBeCloseTo(0.1, 6);
});

test('clipping by norm scales every gradient in place', () => {
  const ps = params('f32');
  const before = ps.map((p) => p.grad);
  const norm = clipGradNorm(ps, 1).itemSync();
  expect(ps.map((p) => p.grad)).toEqual(before);
  const factor = 1 / (norm + 1e-6);
  ps.forEach((p, i) => {
    expectClose(
      p.grad as Tensor,
      (host[i] as Float64Array).map((x) => x * factor),
      {
        absolute: 1e-8,
      },
    );
  });
  expect(gradNorm(ps.map((p) => p.grad as Tensor)).norm.itemSync()).toBeCloseTo(1, 5);
  expect(clipGradNorm([ones([1])], 1).itemSync()).toBe(0);
});

test('clipping by value', () => {
  const ps = params('f32');
  clipGradValue(ps, 0.5);
  const limit = (x: number) => Math.min(0.5, Math.max(-0.5, Math.fround(x)));
  expect(list(ps[0]?.grad as Tensor)).toEqual(Array.from(host[0] as Float64Array, limit));
});

test('wrong arguments are named', () => {
  const [p] = params('f32') as [Tensor];
  expect(() => clipGradNorm([p], -1)).toThrow(/'maxNorm' is -1/);
  expect(() => clipGradValue([p], Number.NaN)).toThrow(/'limit' is NaN/);
  expect(() => gradNorm([])).toThrow(ArgumentError);
  expect(() => clipCoefficient(ones([2]), 1)).toThrow(/'norm' is f32\[2\]/);
});

describeCuda('on cuda', () => {
  test.each(['f32', 'bf16', 'f16'] as const)('norms and clipping in %s', (dtype) => {
    const on = (name: string) => {
      const grads = host.map((g) => tensorOf(g, [g.length], dtype).to(name));
      const strided = transpose(tensorOf(host[2] as Float64Array, [20, 30], dtype).to(name));
      const all = [...grads, strided];
      const scale = tensor([-0.5]).to(name);
      const { norm, nonFinite } = gradNorm(all, { scale });
      const largest = gradNorm(all, { order: Number.POSITIVE_INFINITY }).norm;
      const coefficient = clipCoefficient(norm, 1.5);
      scaleTensors(all, coefficient);
      clampTensors(all, 0.01);
      const results = [norm, nonFinite, largest, coefficient, ...all];
      return results.map(values);
    };
    const [expected, actual] = [on('cpu'), on('cuda')];
    actual.forEach((x, i) => {
      expectClose(x, expected[i] as Float64Array, { relative: dtype === 'f32' ? 1e-6 : 2 ** -7 });
    });
  });

  test('infinite and NaN elements are reported, large magnitudes do not overflow', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const order of [2, Number.POSITIVE_INFINITY] as const) {
        const { norm, nonFinite } = gradNorm(
          [ones([3]), tensor([1, bad])].map((t) => t.to('cuda')),
          { order },
        );
        expect(nonFinite.itemSync()).toBe(1);
        expect(norm.itemSync()).toBe(bad);
      }
    }
    const { norm, nonFinite } = gradNorm([tensor([3e30, 4e30]).to('cuda')]);
    expect(norm.itemSync() / 5e30).toBeCloseTo(1, 6);
    expect(nonFinite.itemSync()).toBe(0);
  });
});
