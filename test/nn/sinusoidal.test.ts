import { sinusoidalPositions } from 'longspan';
import { loadGolden, maxError } from '../goldens.js';

test('sinusoidalPositions equals the third-party table, in float64 and float32', () => {
  const golden = loadGolden('positions_noam_d32');
  const wanted = golden.tensor('out.pe').data;
  const { atol } = golden.manifest.tensors['out.pe'];
  const exact = sinusoidalPositions(100, 32, {}, new Float64Array(3200));
  expect(maxError(exact, wanted)).toBeLessThan(atol?.f64 ?? 0);
  const single = sinusoidalPositions(100, 32);
  expect(Object.prototype.toString.call(single)).toBe('[object Float32Array]');
  expect(maxError(single, wanted)).toBeLessThan(atol?.f32 ?? 0);
});

test('the halves layout holds the same columns, sines first; odd widths end with a sine', () => {
  const pairs = sinusoidalPositions(5, 6);
  const halves = sinusoidalPositions(5, 6, { layout: 'halves' });
  for (let p = 0; p < 5; p++) {
    for (let i = 0; i < 3; i++) {
      expect(halves[p * 6 + i]).toBe(pairs[p * 6 + 2 * i]);
      expect(halves[p * 6 + 3 + i]).toBe(pairs[p * 6 + 2 * i + 1]);
    }
  }
  for (const layout of ['interleaved', 'halves'] as const) {
    const odd = sinusoidalPositions(2, 3, { layout });
    expect([...odd.subarray(0, 3)].sort()).toEqual([0, 0, 1]);
  }
});

test('bad sizes and options name themselves', () => {
  expect(() => sinusoidalPositions(0, 4)).toThrow(/'length' is 0/);
  expect(() => sinusoidalPositions(4, Number.NaN)).toThrow(/'d' is NaN/);
  expect(() => sinusoidalPositions(4, 4, { base: 1 })).toThrow(/'base' is 1/);
  expect(() => sinusoidalPositions(4, 4, { layout: 'x' as 'halves' })).toThrow(/'layout' is 'x'/);
  expect(() => sinusoidalPositions(4, 4, {}, new Float32Array(3))).toThrow(/'out' is of 3/);
});
