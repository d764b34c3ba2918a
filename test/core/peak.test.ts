import { ArgumentError } from 'longspan';
import { measurePeak } from '#lib/core/peak';

test('measures rates that a machine can have', () => {
  const one = measurePeak({ threads: 1, seconds: 0.02 });
  // One scalar operation every 10 ns would be 1e8; no core has 1e13.
  expect(one.fma).toBeGreaterThan(1e8);
  expect(one.fma).toBeLessThan(1e13);
  expect(one.copy).toBeGreaterThan(1e7);
  expect(one.copy).toBeLessThan(1e13);
});

test('refuses options that make no sense', () => {
  expect(() => measurePeak({ threads: 0 })).toThrow(ArgumentError);
  expect(() => measurePeak({ threads: 1.5 })).toThrow("'threads'");
  expect(() => measurePeak({ seconds: Number.NaN })).toThrow("'seconds'");
  expect(() => measurePeak({ second: 1 } as object)).toThrow("Did you mean 'seconds'?");
});
