import { full, Generator, initialise, Linear, ones, type Tensor, tensor, zeros } from 'longspan';
import { values } from '../support/compare.js';

function moments(t: Tensor): { mean: number; deviation: number; least: number; most: number } {
  const x = values(t);
  const mean = x.reduce((s, v) => s + v, 0) / x.length;
  const variance = x.reduce((s, v) => s + (v - mean) ** 2, 0) / x.length;
  return { mean, deviation: Math.sqrt(variance), least: Math.min(...x), most: Math.max(...x) };
}

describe('initialise', () => {
  const shape = [200, 300] as const;
  const generator = () => new Generator(3);

  test.each([
    ['xavierUniform', Math.sqrt(2 / 500), Math.sqrt(6 / 500)],
    ['xavierNormal', Math.sqrt(2 / 500), Number.POSITIVE_INFINITY],
    ['kaimingUniform', Math.sqrt(2 / 300), Math.sqrt(6 / 300)],
    ['kaimingNormal', Math.sqrt(2 / 300), Number.POSITIVE_INFINITY],
  ] as const)('%s has the deviation and the bounds of its paper', (name, deviation, bound) => {
    const found = moments(initialise[name](zeros(shape), { generator: generator() }));
    expect(Math.abs(found.mean)).toBeLessThan(deviation / 50);
    expect(found.deviation / deviation).toBeCloseTo(1, 1);
    expect(found.most).toBeLessThanOrEqual(bound);
    expect(found.least).toBeGreaterThanOrEqual(-bound);
  });

  test('fan out and gain scale', () => {
    const t = initialise.kaimingNormal(zeros(shape), {
      fan: 'out',
      gain: 3,
      generator: generator(),
    });
    expect(moments(t).deviation / (3 / Math.sqrt(200))).toBeCloseTo(1, 1);
  });

  test('truncatedNormal stays within its bounds and has the shape of the cut distribution', () => {
    const t = initialise.truncatedNormal(zeros(shape), {
      std: 0.5,
      mean: 1,
      generator: generator(),
    });
    const found = moments(t);
    expect(found.least).toBeGreaterThanOrEqual(0);
    expect(found.most).toBeLessThanOrEqual(2);
    expect(found.most).toBeGreaterThan(1.95);
    expect(found.mean).toBeCloseTo(1, 2);
    expect(found.deviation).toBeCloseTo(0.5 * 0.8796, 2); // of a normal cut at two deviations
    const one = initialise.truncatedNormal(zeros([1000]), { low: 1, high: 3 });
    expect(moments(one).least).toBeGreaterThanOrEqual(1);
  });

  test('the same seed gives the same values in every dtype, in place', () => {
    const a = zeros([7], { dtype: 'f64' });
    expect(initialise.normal(a, { generator: generator() })).toBe(a);
    const b = initialise.normal(zeros([7]), { generator: generator() });
    expect(Float32Array.from(values(a))).toEqual(Float32Array.from(values(b)));
    expect(values(initialise.constant(ones([2]), 4))).toEqual(Float64Array.of(4, 4));
  });

  test('a parameter may be overwritten without a graph', () => {
    const layer = new Linear(3, 2, { generator: generator() });
    initialise.constant(layer.weight, 2);
    expect(layer.weight.isLeaf && layer.weight.requiresGrad).toBe(true);
    expect(values(layer.forward(full([1, 3], 1)))[0]).toBeCloseTo(
      6 + (values(layer.bias as Tensor)[0] as number),
      6,
    );
  });

  test('bad arguments are named', () => {
    expect(() => initialise.xavierUniform(tensor([1, 2]))).toThrow(/fan/i);
    expect(() => initialise.kaimingNormal(zeros(shape), { fan: 'both' as 'in' })).toThrow(/fan/);
    expect(() => initialise.truncatedNormal(zeros(shape), { low: 3, high: 1 })).toThrow(/low/);
    expect(() => initialise.normal(zeros(shape), { stdd: 1 } as object)).toThrow(/stdd/);
  });
});
