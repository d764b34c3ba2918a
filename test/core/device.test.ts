import {
  ArgumentError,
  device,
  exp,
  full,
  less,
  mul,
  OutOfMemoryError,
  softmax,
  type Tensor,
  tensor,
} from 'longspan';
import { settledMemory } from '../support/memory.js';

const cpu = device('cpu');
afterEach(() => cpu.setMemoryLimit(0));

test('names', () => {
  expect(device('cpu')).toBe(cpu);
  expect(device(cpu)).toBe(cpu);
  expect(cpu.toString()).toBe('cpu');
  for (const name of ['gpu', 'cuda:', 'cuda:-1', 'CPU', '']) {
    expect(() => device(name)).toThrow(ArgumentError);
    expect(() => device(name)).toThrow(/'cpu', 'cuda'/);
  }
});

describe('out of memory', () => {
  const elements = 1 << 22; // 16 MB
  test('poisons results of the failed operator only, with the sizes', async () => {
    cpu.emptyCache();
    cpu.setMemoryLimit((await settledMemory(cpu)).active + (8 << 20));
    const small = full([16], 2);
    const big = full([elements], 1);
    const derived = big.slice(0, 0, 4).clone().reshape(2, 2);
    await expect(derived.data()).rejects.toThrow(/full: out of memory asking for 16777216 bytes/);
    await expect(big.data()).rejects.toBeInstanceOf(OutOfMemoryError);
    expect(() => derived.dataSync()).toThrow(OutOfMemoryError);
    expect(await small.data()).toEqual(new Float32Array(16).fill(2));
    cpu.setMemoryLimit(0);
    expect(await full([elements], 1).slice(0, 0, 1).item()).toBe(1);
  });

  test('names the function that was called, not the operator it shares', async () => {
    const x = full([1 << 10, 1 << 12], 1);
    await x.slice(0, 0, 1).data();
    cpu.setMemoryLimit(1); // whatever is freed meanwhile, nothing fits
    // The third has an operator of its own, and must not keep the name of the call before.
    const results = { mul: mul(x, x), exp: exp(x), softmax: softmax(x), less: less(x, x) };
    for (const [operator, result] of Object.entries(results)) {
      await expect(result.data()).rejects.toEqual(expect.objectContaining({ operator }));
    }
    cpu.setMemoryLimit(0);
    x.dispose();
  });

  test('a closed stream is refused', () => {
    const stream = cpu.newStream();
    stream.close();
    stream.close();
    const closed = expect.objectContaining({ code: 'ERR_DISPOSED' });
    expect(() => stream.synchronizeSync()).toThrow(closed);
    expect(() => cpu.withStream(stream, () => full([2], 1))).toThrow(closed);
  });

  test('frees the caches and retries before giving up', async () => {
    full([elements], 1).dispose();
    const { active, cached } = await settledMemory(cpu);
    expect(cached).toBeGreaterThanOrEqual(16 << 20);
    cpu.setMemoryLimit(active + (20 << 20));
    expect(
      await full([elements + 4096], 3)
        .slice(0, 5, 6)
        .item(),
    ).toBe(3);
  });

  test('overwriting a poisoned tensor heals it', async () => {
    cpu.emptyCache();
    cpu.setMemoryLimit((await settledMemory(cpu)).active + 4096);
    const t = full([4096], 1);
    await expect(t.data()).rejects.toThrow(OutOfMemoryError);
    cpu.setMemoryLimit(0);
    t.write(new Float32Array(4096).fill(7));
    expect((await t.data())[9]).toBe(7);
  });

  test('host data that does not fit throws at once', async () => {
    cpu.setMemoryLimit((await settledMemory(cpu)).active + 4096);
    cpu.emptyCache();
    expect(() => tensor(new Float32Array(elements))).toThrow(OutOfMemoryError);
  });

  test('a shape beyond any machine is refused by name', () => {
    expect(() => full([2 ** 40, 2 ** 20], 0)).toThrow(/'shape'.*2\^48/);
    expect(() => full([-1], 0)).toThrow(/'shape' is -1/);
  });
});

test('counters', async () => {
  const before = await settledMemory(cpu);
  cpu.resetPeakMemory();
  const t = full([1 << 20], 1);
  await cpu.synchronize();
  expect(cpu.memory().active - before.active).toBe(4 << 20);
  t.dispose();
  expect(cpu.memory().active).toBe(before.active);
  expect(cpu.memory().peak - before.active).toBe(4 << 20);
  expect(() => cpu.setMemoryLimit(-5)).toThrow(/'bytes' is -5/);
});

describe('streams', () => {
  test('tensors shared between streams order themselves', async () => {
    const other = cpu.newStream();
    for (let round = 0; round < 50; round++) {
      const x: Tensor = full([1 << 16], round);
      const y = cpu.withStream(other, () => x.clone());
      x.write(new Float32Array(1 << 16).fill(-1)); // must wait for the read in the other stream
      const z = y.clone();
      expect((await z.data())[100]).toBe(round);
      expect((await x.data())[100]).toBe(-1);
    }
    other.close();
  });

  test('closing lets enqueued work finish', async () => {
    const other = cpu.newStream();
    const y = cpu.withStream(other, () => full([1 << 20], 4));
    other.close();
    expect(await y.slice(0, 7, 8).item()).toBe(4);
  });

  test('backpressure keeps a loop close to the device', async () => {
    let highest = 0;
    for (let i = 0; i < 200; i++) {
      for (let k = 0; k < 10; k++) full([1 << 14], k).dispose();
      highest = Math.max(highest, cpu.stream.pending);
      await cpu.ready();
    }
    expect(highest).toBeLessThanOrEqual(40);
  });
});
