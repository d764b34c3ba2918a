import { constantSchedule, cosineSchedule, noamSchedule, warmupSchedule } from 'longspan';
import { loadGolden, maxError } from '../goldens.js';

test('noamSchedule equals the third-party rates', () => {
  const golden = loadGolden('positions_noam_d32');
  const steps = golden.tensor('in.steps').data;
  const rates = (golden.manifest.params.opts as [number, number, number][]).flatMap(
    ([modelDim, factor, warmup]) => [...steps].map(noamSchedule({ modelDim, factor, warmup })),
  );
  const { atol } = golden.manifest.tensors['out.lr'];
  expect(maxError(rates, golden.tensor('out.lr').data)).toBeLessThan(atol?.f64 ?? 0);
});

test('cosineSchedule rises, peaks after the warm-up, halves in the middle and ends at its floor', () => {
  const rate = cosineSchedule({ rate: 1, steps: 110, warmup: 10, floor: 0.1 });
  expect([0, 1, 5, 10].map(rate)).toEqual([0.1, 0.1, 0.5, 1]);
  expect(rate(60)).toBeCloseTo(0.55, 12);
  expect(rate(110)).toBeCloseTo(0.1, 12);
  expect(rate(1e9)).toBeCloseTo(0.1, 12);
  for (let step = 11; step <= 110; step++) expect(rate(step)).toBeLessThan(rate(step - 1));
  expect(cosineSchedule({ rate: 2, steps: 10 })(0)).toBe(2);
});

test('warmupSchedule and constantSchedule', () => {
  const rate = warmupSchedule({ rate: 8, warmup: 4 });
  expect([0, 1, 2, 3, 4, 5].map(rate)).toEqual([2, 2, 4, 6, 8, 8]);
  expect(warmupSchedule({ rate: 8, warmup: 0 })(1)).toBe(8);
  expect(constantSchedule({ rate: 3 })(17)).toBe(3);
});

test('bad options name themselves', () => {
  expect(() => noamSchedule({ modelDim: 0, warmup: 1 })).toThrow(/'modelDim' is 0/);
  expect(() => noamSchedule({ modelDim: 1, warmup: 0 })).toThrow(/'warmup' is 0/);
  expect(() => cosineSchedule({ rate: 1, steps: 5, warmup: 5 })).toThrow(/'steps' is 5/);
  expect(() => warmupSchedule({ rate: Number.NaN, warmup: 1 })).toThrow(/'rate' is NaN/);
  expect(() => constantSchedule({ rate: -1 })).toThrow(/'rate' is -1/);
});
