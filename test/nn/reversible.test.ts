import {
  add,
  backward,
  bernoulli,
  checkpoint,
  type DType,
  decideOnce,
  device,
  dropout,
  Generator,
  gradients,
  linear,
  mul,
  normal,
  type ReversibleBlock,
  reversible,
  sum,
  type Tensor,
  tanh,
  tidy,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { leastPeak } from '../support/memory.js';

const width = 6;

interface Setting {
  depth: number;
  dtype?: DType;
  on?: string;
  p?: number;
}

/** Weights of `depth` blocks, two inputs and two upstream gradients. */
function setting({ depth, dtype = 'f64', on = 'cpu', p = 0 }: Setting) {
  const generator = new Generator(3);
  const make = (shape: number[], std = 1) => normal(shape, { generator, std, dtype }).to(on);
  const weights = Array.from({ length: 2 * depth }, () => make([width, width], 0.4).requireGrad());
  const inputs = [make([4, width]).requireGrad(), make([4, width]).requireGrad()] as const;
  const upstream = [make([4, width]), make([4, width])] as const;
  const noise = new Generator(8, on);
  const branch = (w: Tensor) => (x: Tensor) => dropout(tanh(linear(x, w)), { p, generator: noise });
  const blocks = Array.from({ length: depth }, (_, i): ReversibleBlock => {
    const [f, g] = weights.slice(2 * i, 2 * i + 2).map(branch) as [
      ReversibleBlock['f'],
      ReversibleBlock['g'],
    ];
    return { f, g };
  });
  return { blocks, weights, inputs, upstream, noise };
}

/** The same function with everything recorded. */
function ordinary(blocks: readonly ReversibleBlock[], x1: Tensor, x2: Tensor): [Tensor, Tensor] {
  let [a, b] = [x1, x2];
  for (const { f, g } of blocks) {
    a = add(a, f(b) as Tensor);
    b = add(b, g(a) as Tensor);
  }
  return [a, b];
}

const found = (tensors: readonly (Tensor | null)[]) => tensors.map((t) => values(t as Tensor));

function compare(actual: Float64Array[], expected: Float64Array[], absolute: number): void {
  actual.forEach((data, i) => {
    expectClose(data, expected[i] as Float64Array, { absolute }, `tensor ${i}`);
  });
}

describe('reversible', () => {
  const runs: [string, DType, number][] = testDevices().map((on) => [on, 'f32', 3e-5]);
  runs.push(['cpu', 'f64', 1e-12]);

  test.each(runs)('is the ordinary form on %s in %s, dropout included', (on, dtype, absolute) => {
    for (const p of [0, 0.3]) {
      const { blocks, weights, inputs, upstream, noise } = setting({ depth: 5, dtype, on, p });
      const leaves = [...inputs, ...weights];
      const expected = ordinary(blocks, ...inputs);
      const wanted = found(gradients(expected, leaves, { gradients: upstream }));
      const end = noise.stateSync();
      noise.seed(8);
      const { y1, y2, loss } = reversible(blocks, ...inputs);
      expect(loss).toBeNull();
      expect(found([y1, y2])).toEqual(found(expected));
      expect(noise.stateSync()).toEqual(end);
      compare(found(gradients([y1, y2], leaves, { gradients: upstream })), wanted, absolute);
      expect(noise.stateSync()).toEqual(end); // the replay leaves no trace
    }
  });

  test('gradients of parameters add up, as do those of an input that is both streams', () => {
    const { blocks, weights, inputs, upstream } = setting({ depth: 2 });
    const [x] = inputs;
    const shared = [...blocks, ...blocks];
    const run = (pair: readonly [Tensor, Tensor]) => {
      const loss = add(sum(mul(pair[0], upstream[0])), sum(mul(pair[1], upstream[1])));
      backward(loss);
      const grads = found([x, ...weights].map((t) => t.grad));
      return grads;
    };
    const once = run(ordinary(shared, x, x));
    const { y1, y2 } = reversible(shared, x, x);
    const twice = run([y1, y2]); // into .grad, which holds the first run's already
    compare(
      twice,
      once.map((g) => g.map((v) => 2 * v)),
      1e-11,
    );
  });

  test('a stream that nobody reads sends no gradient', () => {
    const { blocks, weights, inputs, upstream } = setting({ depth: 3 });
    const leaves = [...inputs, ...weights];
    for (const i of [0, 1]) {
      const gradient = { gradients: [upstream[i] as Tensor] };
      const expected = gradients([ordinary(blocks, ...inputs)[i] as Tensor], leaves, gradient);
      const { y1, y2 } = reversible(blocks, ...inputs);
      const actual = gradients([[y1, y2][i] as Tensor], leaves, gradient);
      // The last g is not used by the first stream.
      expect(actual.map((t) => t === null)).toEqual(expected.map((t) => t === null));
      const there = (list: (Tensor | null)[]) => found(list.filter((t) => t !== null));
      compare(there(actual), there(expected), 1e-12);
    }
  });

  test('losses of branches are added, and their gradients flow', () => {
    const { blocks, weights, inputs, upstream } = setting({ depth: 3 });
    const leaves = [...inputs, ...weights];
    const own = (x: Tensor) => mul(sum(mul(x, x)), 0.01);
    const [a, b] = ordinary(blocks, ...inputs);
    let [x1, x2] = inputs as readonly [Tensor, Tensor];
    let total: Tensor | null = null;
    for (const { f, g } of blocks) {
      total = total ? add(total, own(x2)) : own(x2);
      x1 = add(x1, f(x2) as Tensor);
      x2 = add(x2, g(x1) as Tensor);
    }
    const extra = mul(total as Tensor, 3);
    const wanted = gradients([a, b, extra], leaves, {
      gradients: [...upstream, mul(extra.detach(), 0.5)],
    });
    const losing = blocks.map(({ f, g }) => ({
      f: (x: Tensor) => [f(x) as Tensor, own(x)] as const,
      g: (x: Tensor) => [g(x) as Tensor, null] as const,
    }));
    const { y1, y2, loss } = reversible(losing, ...inputs);
    const scaled = mul(loss as Tensor, 3);
    compare(found([scaled]), found([extra]), 1e-12);
    const actual = gradients([y1, y2, scaled], leaves, {
      gradients: [...upstream, mul(scaled.detach(), 0.5)],
    });
    compare(found(actual), found(wanted), 1e-11);
  });

  test('a branch that changes the shape is refused', () => {
    const { inputs } = setting({ depth: 1 });
    const same = (x: Tensor) => x;
    const block = { f: same, g: (x: Tensor) => normal([2, ...x.shape], { dtype: 'f64' }) };
    expect(() => reversible([block], ...inputs)).toThrow(/a branch turned/);
  });

  test.each(testDevices())('memory does not grow with depth on %s', async (on) => {
    const where = device(on);
    const size = 64;
    const rows = 512; // a stream is 128 KiB
    const w = normal([size, size], { std: 0.05 }).to(on).requireGrad();
    const branch = (x: Tensor) => tanh(linear(x, w));
    const options = on === 'cuda' ? { runs: 1 } : {}; // the emulator is slow, and never behind
    const most = (depth: number, keeps: boolean): Promise<number> => {
      const x = normal([rows, size]).to(on).requireGrad();
      const blocks = new Array<ReversibleBlock>(depth).fill({ f: branch, g: branch });
      return leastPeak(
        where,
        () => {
          tidy(() => {
            const { y1, y2 } = keeps
              ? (([a, b]) => ({ y1: a, y2: b }))(ordinary(blocks, x, x))
              : reversible(blocks, x, x);
            backward(add(sum(y1), sum(y2)));
          });
          for (const t of [x.grad, w.grad]) t?.dispose();
          x.grad = w.grad = null;
        },
        options,
      );
    };
    const [shallow, deep] = [await most(2, false), await most(32, false)];
    // Each further block would keep two streams of 128 KiB.
    expect(deep - shallow).toBeLessThan(8 * rows * size * 4);
    expect(await most(32, true)).toBeGreaterThan(2 * shallow); // what the counters would show
  });
});

describe('decideOnce', () => {
  const noise = () => new Generator(4);

  /** Drops, decides on a mask of noise, drops again; counts decisions. */
  function region(generator: Generator, count: { decisions: number }) {
    return (x: Tensor): Tensor => {
      const before = dropout(x, { p: 0.5, generator });
      const [mask] = decideOnce(() => {
        count.decisions++;
        return [bernoulli(x.shape, { p: 0.5, generator, dtype: 'f64' })];
      }) as [Tensor];
      return dropout(mul(before, mask), { p: 0.5, generator });
    };
  }

  test.each([1, 2])('a region %i deep decides once and draws as before', (levels) => {
    const x = normal([9, 7], { dtype: 'f64', generator: new Generator(2) }).requireGrad();
    const run = (nest: number) => {
      const generator = noise();
      const count = { decisions: 0 };
      let fn = region(generator, count);
      for (let i = 0; i < nest; i++) {
        const inner = fn;
        fn = (t) => checkpoint(inner, [t]);
      }
      const y = fn(x);
      const [dx] = gradients([y], [x], {
        gradients: [normal([9, 7], { dtype: 'f64', generator })],
      });
      return { y: values(y), dx: values(dx as Tensor), count, state: generator.stateSync() };
    };
    const plain = run(0);
    const nested = run(levels);
    expect(nested).toEqual(plain);
    expect(nested.count.decisions).toBe(1);
    for (const zero of [true, false]) expect(plain.dx.some((v) => (v === 0) === zero)).toBe(true);
  });
});
