import { History } from '#lib/train/history';

test('keeps every loss until there are too many, then merges neighbours', () => {
  const history = new History(8);
  for (let step = 1; step <= 7; step++) history.add(step, step);
  expect(history.training).toEqual({ steps: [1, 2, 3, 4, 5, 6, 7], losses: [1, 2, 3, 4, 5, 6, 7] });
  history.add(8, 8);
  expect(history.training).toEqual({ steps: [2, 4, 6, 8], losses: [1.5, 3.5, 5.5, 7.5] });
  history.add(9, 9);
  expect(history.training.steps).toHaveLength(4);
  history.add(10, 11);
  expect(history.training.losses.at(-1)).toBe(10);
});

test('stays bounded, and its mean is that of all losses', () => {
  const history = new History(16);
  for (let step = 1; step <= 4096; step++) history.add(step, step % 7);
  const { losses, steps } = history.training;
  expect(losses.length).toBeLessThan(16);
  expect(steps.at(-1)).toBe(4096);
  const all = Array.from({ length: 4096 }, (_, i) => (i + 1) % 7);
  const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b) / list.length;
  expect(mean(losses)).toBeCloseTo(mean(all), 10);
});

test('a restored history goes on exactly', () => {
  const straight = new History(8);
  let resumed = new History(8);
  for (let step = 1; step <= 41; step++) {
    straight.add(step, Math.sin(step));
    resumed.add(step, Math.sin(step));
    if (step % 13 === 0) {
      straight.addEvaluation({ step, loss: 1 / step });
      resumed.addEvaluation({ step, loss: 1 / step });
      resumed = History.from(JSON.parse(JSON.stringify(resumed.state())), 8);
    }
  }
  expect(resumed.state()).toEqual(straight.state());
  expect(resumed.best?.step).toBe(39);
});

test.each([undefined, {}, { stride: 1, steps: [1], losses: [], open: [0, 0], evaluations: [] }])(
  'refuses %p as a state',
  (state) => {
    expect(() => History.from(state as never)).toThrow(
      expect.objectContaining({ code: 'ERR_CHECKPOINT' }),
    );
  },
);
