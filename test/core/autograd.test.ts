import {
  backward,
  type Context,
  checkpoint,
  defineOperator,
  device,
  dropout,
  full,
  GraphError,
  gradients,
  manualSeed,
  noGrad,
  releaseGraph,
  reshape,
  slice,
  type Tensor,
  tensor,
  tidy,
  transpose,
  UnsupportedError,
  uniform,
  vjp,
} from 'longspan';
import { accumulate } from '#lib/core/primitives';
import { settledMemory } from '../support/memory.js';

/** x + x + ... as an operator whose backward is composed of itself. */
const twice = defineOperator({
  name: 'twice',
  composed: true,
  forward: (_ctx: Context, x: Tensor): Tensor => accumulate(x, x),
  backward: (_ctx, grad) => [grad && twice(grad)],
}) as (x: Tensor) => Tensor;

/** a + b. */
const plus = defineOperator({
  name: 'plus',
  composed: true,
  forward: (_ctx: Context, a: Tensor, b: Tensor): Tensor => accumulate(a, b),
  backward: (_ctx, grad) => [grad, grad],
});

/** The identity, saving its input; its gradient cannot be differentiated again. */
const sealed = defineOperator({
  name: 'sealed',
  forward(ctx: Context, x: Tensor): Tensor {
    ctx.save(x);
    ctx.own(x.clone());
    return x.clone();
  },
  backward(ctx, grad) {
    ctx.saved();
    return [grad?.clone()];
  },
});

const ones = (...shape: number[]) => full(shape, 1);
const values = (t: Tensor | null | undefined) => Array.from((t as Tensor).dataSync());

test('gradients of views and sums', () => {
  const x = tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]).requireGrad();
  const y = slice(transpose(x), 0, 1, 3);
  backward(reshape(y, [4]), { gradient: tensor([1, 2, 3, 4]) });
  expect(values(x.grad)).toEqual([0, 1, 3, 0, 2, 4]);
});

test('a tensor used several times collects every gradient', () => {
  const x = tensor([1, 2]).requireGrad();
  backward(plus(plus(x, twice(x)), x), { gradient: ones(2) });
  expect(values(x.grad)).toEqual([4, 4]);
});

test('gradients accumulate over backward calls, and leaves do not share them', () => {
  const a = tensor([1]).requireGrad();
  const b = tensor([1]).requireGrad();
  backward(plus(a, b));
  backward(plus(a, b));
  expect([values(a.grad), values(b.grad)]).toEqual([[2], [2]]);
  a.grad?.dispose();
  expect(values(b.grad)).toEqual([2]);
});

test('backward consumes the graph: intermediates go, leaves, loss and retained tensors stay', () => {
  const x = tensor([1]).requireGrad();
  const kept = twice(x).retain();
  const middle = twice(kept);
  const loss = twice(middle);
  backward(loss);
  expect([x, kept, middle, loss].map((t) => t.isDisposed)).toEqual([false, false, true, false]);
  expect(values(kept.grad)).toEqual([4]);
  expect(() => middle.dataSync()).toThrow(/released by backward\(\).*retain\(\)/);
  expect(() => backward(loss)).toThrow(GraphError);
  expect(() => backward(loss)).toThrow(/consumed by an earlier backward.*retainGraph/);
});

test('retainGraph keeps everything for another pass', () => {
  const x = tensor([1]).requireGrad();
  const middle = twice(x);
  const loss = twice(middle);
  backward(loss, { retainGraph: true });
  backward(loss);
  expect(values(x.grad)).toEqual([8]);
  expect(middle.isDisposed).toBe(true);
});

test('an in-place write to a saved tensor is noticed', () => {
  const x = tensor([1, 2]).requireGrad();
  const y = sealed(x);
  x.write(new Float32Array([5, 6]));
  expect(() => backward(y, { gradient: ones(2) })).toThrow(/sealed.*written in place/);
});

test('a wrong gradient shape names the operator', () => {
  const bad = defineOperator({
    name: 'bad',
    forward: (_ctx: Context, x: Tensor): Tensor => x.clone(),
    backward: () => [ones(3)],
  });
  const y = bad(tensor([1, 2]).requireGrad());
  expect(() => backward(y, { gradient: ones(2) })).toThrow(/backward of bad returned f32\[3\]/);
});

test('gradients() returns instead of accumulating', () => {
  const x = tensor([1]).requireGrad();
  const unused = tensor([1]).requireGrad();
  const [gx, gu] = gradients([twice(x)], [x, unused]);
  expect(values(gx)).toEqual([2]);
  expect(gu).toBeNull();
  expect(x.grad).toBeNull();
});

test('second order where backward is composed, a clear refusal elsewhere', () => {
  const x = tensor([3]).requireGrad();
  const [g] = gradients([twice(x)], [x], { createGraph: true });
  expect(values(g)).toEqual([2]);
  expect(() => gradients([sealed(x)], [x], { createGraph: true })).toThrow(UnsupportedError);
  expect(() => gradients([sealed(x)], [x], { createGraph: true })).toThrow(
    /sealed has no second-order/,
  );
});

test('vjp may be pulled back again and again, also inside a backward', () => {
  const f = vjp((x) => twice(x), [tensor([1, 2])]);
  expect(values(f.pullback(tensor([1, 0]))[0])).toEqual([2, 0]);
  expect(values(f.pullback(tensor([0, 3]))[0])).toEqual([0, 6]);
  const outer = defineOperator({
    name: 'outer',
    forward: (_ctx: Context, x: Tensor): Tensor => twice(x),
    backward: (_ctx, grad) => [grad && f.pullback(grad)[0]],
  });
  const x = tensor([1, 1]).requireGrad();
  backward(outer(x), { gradient: tensor([5, 7]) });
  expect(values(x.grad)).toEqual([10, 14]);
  f.dispose();
  expect(() => f.pullback(ones(2))).toThrow(/consumed|disposed/);
});

test('noGrad records nothing and refuses async functions', () => {
  const x = tensor([1]).requireGrad();
  expect(noGrad(() => twice(x)).requiresGrad).toBe(false);
  expect(() => noGrad(async () => twice(x))).toThrow(/async/);
});

test('backward without anything to differentiate', () => {
  expect(() => backward(tensor([1]))).toThrow(/requireGrad/);
  expect(() => backward(twice(ones(2).requireGrad()))).toThrow(/not a scalar/);
});

describe('checkpoint', () => {
  test('gives the same gradients, parameters inside included, and keeps no intermediates', () => {
    const w = tensor([1, 1]).requireGrad();
    const x = tensor([1, 2]).requireGrad();
    const calls: number[] = [];
    const middles: Tensor[] = [];
    const y = checkpoint(
      (a) => {
        calls.push(1);
        const middle = plus(a, w);
        middles.push(middle);
        return twice(middle);
      },
      [x],
    );
    backward(y, { gradient: ones(2) });
    expect(calls).toHaveLength(2);
    expect([values(x.grad), values(w.grad)]).toEqual([
      [2, 2],
      [2, 2],
    ]);
    expect(middles[1]?.isDisposed).toBe(true);
  });

  test('is recorded even when only parameters inside need gradients', () => {
    const w = tensor([1]).requireGrad();
    const x = tensor([5]);
    backward(checkpoint((a) => plus(a, w), [x]));
    expect(values(w.grad)).toEqual([1]);
  });

  test('serves gradients() with parameters as targets', () => {
    const w = tensor([1]).requireGrad();
    const x = tensor([5]).requireGrad();
    const [gw, gx] = gradients([checkpoint((a) => twice(plus(a, w)), [x])], [w, x]);
    expect([values(gw), values(gx)]).toEqual([[2], [2]]);
    expect(w.grad).toBeNull();
  });

  test('draws the same random numbers again and leaves the generator where it stood', () => {
    const run = (recompute: boolean) => {
      manualSeed(11);
      const x = full([64], 1).requireGrad();
      const region = (a: Tensor) => dropout(twice(a), { p: 0.5 });
      const y = recompute ? checkpoint(region, [x]) : region(x);
      const shown = values(y);
      // Moves the generator on: backward must not leave it where the region did.
      const between = values(uniform([4]));
      backward(y, { gradient: full([64], 1) });
      return [shown, between, values(x.grad), values(uniform([4]))];
    };
    expect(run(true)).toEqual(run(false));
  });

  test('nests', () => {
    const w = tensor([1]).requireGrad();
    const inner = (x: Tensor) => checkpoint((a) => plus(a, w), [x]);
    const y = checkpoint((a) => twice(inner(a)), [tensor([1])]);
    backward(y);
    expect(values(w.grad)).toEqual([2]);
  });
});

test('releaseGraph frees what a discarded result recorded', async () => {
  const cpu = device('cpu');
  const x = ones(1 << 16).requireGrad();
  const before = (await settledMemory(cpu)).active;
  const y = twice(sealed(x));
  releaseGraph([y]);
  y.dispose();
  await cpu.synchronize();
  expect(cpu.memory().active).toBe(before);
});

test('10 000 synchronous steps without dispose hold flat memory', () => {
  const cpu = device('cpu');
  const size = 8192; // 32 KB a tensor
  const w = ones(size).requireGrad();
  const step = () => {
    const x = tensor(new Float32Array(size));
    const loss = slice(twice(plus(w, x)), 0, 0, 1);
    backward(loss);
    w.grad?.dispose();
    w.grad = null;
    return loss;
  };
  for (let i = 0; i < 2000; i++) step();
  cpu.synchronizeSync();
  cpu.resetPeakMemory();
  const settled = cpu.memory();
  for (let i = 0; i < 10_000; i++) step();
  cpu.synchronizeSync();
  // One stray tensor a step would be 320 MB. Garbage awaits a collection, which V8 is asked for in steps
  // of 64 MiB.
  expect(cpu.memory().peak - settled.active).toBeLessThan(160e6);
  expect(cpu.memory().tensors).toBeLessThan(12_000);
});

test('tidy keeps gradients of leaves', () => {
  const x = tensor([1]).requireGrad();
  tidy(() => backward(twice(x)));
  expect(values(x.grad)).toEqual([2]);
});
