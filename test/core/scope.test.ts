import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { full, keep, type Tensor, tidy } from 'longspan';
import { root } from '../root.js';

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
  // In a process of its own: V8 marks its whole heap to find garbage, and a test worker's holds many suites.
  const script = `
    const { device, full } = require(${JSON.stringify(resolve(root, 'dist/index.js'))});
    const cpu = device('cpu');
    for (let i = 0; i < 4000; i++) {
      full([1 << 18], 1); // 4 GB in all
      if (i % 20 === 0) cpu.synchronizeSync();
    }
    cpu.synchronizeSync();
    const { peak, tensors } = cpu.memory();
    console.log(JSON.stringify({ peak, tensors }));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  expect(stderr).toBe('');
  const { peak, tensors } = JSON.parse(stdout) as { peak: number; tensors: number };
  // V8 hears of every 64 MiB, and collects two of them later: 206 MB. Beside eight busy processes it was
  // once 340 MB.
  expect(peak).toBeLessThan(500e6);
  expect(tensors).toBeLessThan(500);
});
