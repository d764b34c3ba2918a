/** Recorded work runs again over the same memory and sees what changed in it. */
import {
  AdamW,
  add,
  attentionDecode,
  device,
  Generator,
  KvCache,
  matmul,
  mul,
  noGrad,
  normal,
  sum,
  type Tensor,
  tensor,
  uniform,
} from 'longspan';
import { settledMemory } from '../support/memory.js';

const cpu = device('cpu');

test('a replay computes from what its inputs now hold', async () => {
  const x = tensor([1, 2, 3]);
  using graph = cpu.capture(() => add(mul(x, x), 1));
  expect(await graph.result.data()).toEqual(Float32Array.of(2, 5, 10));
  x.write(Float32Array.of(4, 5, 6));
  graph.replay();
  expect(await graph.result.data()).toEqual(Float32Array.of(17, 26, 37));
});

test('operators after a replay see its results, and the next replay waits for them', async () => {
  const x = tensor([1]);
  using graph = cpu.capture(() => mul(x, 2));
  const seen = [];
  for (let i = 0; i < 5; i++) {
    x.write(Float32Array.of(i));
    graph.replay();
    seen.push(add(graph.result, 100));
  }
  expect(await Promise.all(seen.map((t) => t.item()))).toEqual([100, 102, 104, 106, 108]);
});

test('a generator goes on from replay to replay', async () => {
  const eager = new Generator(7);
  const wanted = [];
  for (let i = 0; i < 3; i++) wanted.push(await uniform([4], { generator: eager }).data());
  const generator = new Generator(7);
  using graph = cpu.capture(() => uniform([4], { generator }));
  expect(await graph.result.data()).toEqual(wanted[0]);
  for (const values of wanted.slice(1)) expect(await graph.replay().data()).toEqual(values);
});

test('a decoding step is captured once: lengths and positions are read from tensors', async () => {
  const make = () => new KvCache({ batch: 1, heads: 2, capacity: 8, headDim: 4 });
  const steps = Array.from({ length: 6 }, (_, i) =>
    normal([3, 1, 2, 1, 4], { generator: new Generator(i) }),
  );
  const step = (cache: KvCache, qkv: ReturnType<typeof normal>) =>
    noGrad(() => {
      const part = (i: number) => qkv.slice(0, i, i + 1).reshape(1, 2, 1, 4);
      cache.append(part(1), part(2));
      return attentionDecode(part(0), cache);
    });
  const eager = make();
  const wanted = [];
  for (const qkv of steps) wanted.push(await step(eager, qkv).data());

  const cache = make();
  const input = (steps[0] as Tensor).clone();
  using graph = cpu.capture(() => step(cache, input));
  const found = [await graph.result.data()];
  for (const qkv of steps.slice(1)) {
    input.write((await qkv.data()) as Float32Array);
    found.push(await graph.replay().data());
  }
  expect(found).toEqual(wanted);
});

test('a training step, optimizer included', async () => {
  const run = async (captured: boolean) => {
    const w = normal([4, 3], { generator: new Generator(1) }).requireGrad();
    const optimizer = new AdamW([w], { lr: 0.1 });
    const x = normal([5, 4], { generator: new Generator(2) });
    const step = () => {
      const loss = sum(mul(matmul(x, w), matmul(x, w)));
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return loss;
    };
    if (!captured) for (let i = 0; i < 5; i++) step();
    else {
      step(); // what is made on first use would be made anew by every replay
      using graph = cpu.capture(step);
      for (let i = 2; i < 5; i++) graph.replay();
    }
    return w.data();
  };
  expect(await run(true)).toEqual(await run(false));
});

test('memory made inside is freed with the graph', async () => {
  const x = normal([256, 256]);
  const before = (await settledMemory(cpu)).active;
  const graph = cpu.capture(() => sum(matmul(matmul(x, x), x)));
  graph.replay();
  await cpu.synchronize();
  expect(cpu.memory().active).toBeGreaterThan(before);
  graph.dispose();
  graph.result.dispose();
  await cpu.synchronize();
  expect(cpu.memory().active).toBe(before);
});

test('reading while recording is refused, and the recording ends', async () => {
  const x = tensor([1, 2]);
  expect(() => cpu.capture(() => mul(x, 2).dataSync())).toThrow(/device\.capture records/);
  await expect(async () => cpu.capture(() => cpu.synchronizeSync())).rejects.toThrow(/records/);
  expect(() => cpu.capture(() => cpu.capture(() => x))).toThrow(/records/);
  expect(() =>
    cpu.capture(() => {
      throw new Error('mine');
    }),
  ).toThrow('mine');
  expect(await mul(x, 2).data()).toEqual(Float32Array.of(2, 4));
});

test('a failure inside fails the capture; a disposed graph is refused', async () => {
  cpu.setMemoryLimit((await settledMemory(cpu)).active + (64 << 20));
  try {
    expect(() => cpu.capture(() => normal([1 << 13, 1 << 13]))).toThrow(
      expect.objectContaining({ name: 'OutOfMemoryError' }),
    );
  } finally {
    cpu.setMemoryLimit(0);
  }
  const graph = cpu.capture(() => mul(tensor([1]), 2));
  graph.dispose();
  expect(() => graph.replay()).toThrow(expect.objectContaining({ name: 'DisposedError' }));
});
