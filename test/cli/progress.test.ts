import { formatDuration, formatRate } from '#lib/cli/format';
import { describeStatus, trainingProgress } from '#lib/cli/progress';

test.each([
  [0, '0.0s'],
  [0.42, '0.4s'],
  [9.96, '10s'],
  [59.6, '1m00s'],
  [75, '1m15s'],
  [3599.6, '1h00m'],
  [7260, '2h01m'],
  [86400, '1d00h'],
  [200_000, '2d08h'],
  [Number.NaN, '--'],
  [Number.POSITIVE_INFINITY, '--'],
  [-1, '--'],
])('formatDuration(%p)', (seconds, text) => {
  expect(formatDuration(seconds)).toBe(text);
});

test.each([
  [0, '0.00 tok/s'],
  [0.125, '0.13 tok/s'],
  [12.34, '12.3 tok/s'],
  [999.4, '999 tok/s'],
  [999.6, '1.00k tok/s'],
  [15234, '15.2k tok/s'],
  [3.2e9, '3.20G tok/s'],
  [5e15, '5000T tok/s'],
  [Number.NaN, '-- tok/s'],
])('formatRate(%p)', (rate, text) => {
  expect(formatRate(rate, 'tok')).toBe(text);
});

test('describeStatus shows what is known', () => {
  const pace = { tokensPerSecond: 4096, secondsLeft: 90 };
  expect(describeStatus({ step: 1, loss: 2, tokens: 1 }, pace)).toBe(
    'loss 2.000 | 4.10k tok/s | 1m30s left',
  );
  const full = { step: 1, loss: 2, bitsPerByte: 2.885, validationBitsPerByte: 3, tokens: 1 };
  expect(describeStatus(full, pace)).toContain('2.885 bits/byte | validation 3.000');
});

function fakeStream(isTTY: boolean) {
  let text = '';
  const stream = {
    isTTY,
    columns: 100,
    write: (part: string) => {
      text += part;
      return true;
    },
    cursorTo: () => true,
    clearLine: () => true,
    moveCursor: () => true,
    on: () => stream,
    once: () => stream,
    removeListener: () => stream,
  };
  return { stream: stream as unknown as NodeJS.WriteStream, text: () => text };
}

test('without a terminal: a line every ten seconds and at the end, rate and time left of now', () => {
  const { stream, text } = fakeStream(false);
  let time = 0;
  const progress = trainingProgress({ totalSteps: 100, stream, now: () => time });
  for (let step = 1; step <= 50; step++) {
    time += 500;
    progress.update({ step, loss: 3, bitsPerByte: 4.328, tokens: step * 1000 });
  }
  progress.note('checkpoint saved');
  progress.stop();
  progress.stop();
  expect(text().split('\n')).toEqual([
    'step 20/100 | loss 3.000 | 4.328 bits/byte | 2.00k tok/s | 40s left',
    'step 40/100 | loss 3.000 | 4.328 bits/byte | 2.00k tok/s | 30s left',
    'checkpoint saved',
    'step 50/100 | loss 3.000 | 4.328 bits/byte | 2.00k tok/s | 25s left',
    '',
  ]);
});

test('a resumed run does not count the steps before it into its rate', () => {
  const { stream, text } = fakeStream(false);
  let time = 0;
  const progress = trainingProgress({ totalSteps: 100, startStep: 90, stream, now: () => time });
  time = 10_000;
  progress.update({ step: 95, loss: 1, tokens: 500 });
  progress.stop();
  expect(text()).toBe('step 95/100 | loss 1.000 | 50.0 tok/s | 10s left\n');
});

test('on a terminal: a bar that shows step, loss and time left', () => {
  const { stream, text } = fakeStream(true);
  const term = process.env.TERM;
  process.env.TERM = 'xterm';
  try {
    let time = 0;
    const progress = trainingProgress({ totalSteps: 10, stream, now: () => time });
    time = 1000;
    progress.update({ step: 5, loss: 1.25, tokens: 100 });
    progress.note('half way');
    progress.stop();
    progress.stop();
  } finally {
    if (term === undefined) delete process.env.TERM;
    else process.env.TERM = term;
  }
  expect(text()).toContain('half way\n');
  expect(text()).toContain('5/10 | loss 1.250 | 100 tok/s | 1.0s left');
});
