import { setTimeout as sleep } from 'node:timers/promises';
import { device, full, keep, type Tensor, tidy } from 'longspan';

const make = () => full([4], 1);

test('tidy frees what is not returned, looking into structures', () => {
  const made: Tensor[] = [];
  const result = tidy(() => {
    for (let i = 0; i < 5; i++) made.push(make());
    const [a, b, c, d] = made as [Tensor, Tensor, Tensor, Tensor];
    keep(d);
    return { a, list: [b], map: new Map([['c', c]]) };
  });
  expect(result.a).toBe(made[0]);
  expect(made.map((t) => t.isDisposed)).toEqual([false, false, false, false, true]);
  expect(() => (made[4] as Tensor).dataSync()).toThrow(/tidy scope.*keep/);
});

test('an inner scope hands its result to the outer one', () => {
  let inner: Tensor | undefined;
  tidy(() => {
    inner = tidy(make);
    expect(inner.isDisposed).toBe(false);
  });
  expect(inner?.isDisposed).toBe(true);
});

test('a throwing scope frees what it made', () => {
  let made: Tensor | undefined;
  expect(() =>
    tidy(() => {
      made = make();
      throw new Error('mine');
    }),
  ).toThrow('mine');
  expect(made?.isDisposed).toBe(true);
});

test('interleaved async scopes do not free each other’s tensors', async () => {
  const run = (pause: number) =>
    tidy(async () => {
      const first = make();
      await sleep(pause);
      const second = make();
      await sleep(pause);
      expect(first.isDisposed || second.isDisposed).toBe(false);
      return second;
    });
  const [a, b] = await Promise.all([run(5), run(8)]);
  expect([a.isDisposed, b.isDisposed]).toEqual([false, false]);
});

test('dispose is idempotent, and `using` works', () => {
  let outside: Tensor;
  {
    using t = make();
    outside = t;
    expect(t.isDisposed).toBe(false);
  }
  expect(outside.isDisposed).toBe(true);
  expect(() => outside.dispose()).not.toThrow();
});

test('unreachable tensors are released inside a synchronous loop', () => {
  const cpu = device('cpu');
  const before = cpu.memory();
  cpu.resetPeakMemory();
  for (let i = 0; i < 4000; i++) {
    full([1 << 18], 1); // 4 GB in all
    if (i % 20 === 0) cpu.synchronizeSync();
  }
  cpu.synchronizeSync();
  // V8 hears of every 64 MiB, and finds garbage once it has marked its heap: a few of them later, more
  // where other processes take its threads' time. 200 to 430 MB were measured.
  expect(cpu.memory().peak - before.active).toBeLessThan(600e6);
  expect(cpu.memory().tensors - before.tensors).toBeLessThan(600);
});
