import {
  ArgumentError,
  bernoulli,
  CheckpointError,
  Generator,
  manualSeed,
  normal,
  permutation,
  randint,
  type Tensor,
  tidy,
  uniform,
} from 'longspan';
import { philox4x32, philoxWords } from '../reference/philox.js';
import { values } from '../support/compare.js';
import { describeCuda, expectSameOnCuda } from '../support/devices.js';

const list = (t: Tensor) => Array.from(values(t));
const hex = (words: readonly number[]) => words.map((w) => w.toString(16).padStart(8, '0'));

/** Raw words: the range of all 32-bit integers shifts a word by 2^31. */
const words = (generator: Generator, count: number) =>
  list(randint([count], -(2 ** 31), 2 ** 31, { generator })).map((x) => x + 2 ** 31);

describe('Philox4x32-10', () => {
  test('the reference gives the published vectors', () => {
    const ones = 0xffffffff;
    expect(hex(philox4x32([0, 0, 0, 0], [0, 0]))).toEqual([
      '6627e8d5',
      'e169c58d',
      'bc57ac4c',
      '9b00dbd8',
    ]);
    expect(hex(philox4x32([ones, ones, ones, ones], [ones, ones]))).toEqual([
      '408f276d',
      '41c83b0e',
      'a20bc7c6',
      '6d5451fd',
    ]);
    expect(
      hex(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    ).toEqual(['d16cfe09', '94fdcceb', '5001e420', '24126ea1']);
  });

  test('operators take its words in order, from any seed and offset', () => {
    const generator = new Generator(0);
    expect(hex(words(generator, 4))).toEqual(['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']);
    for (const seed of [1, -1, Number.MAX_SAFE_INTEGER]) {
      expect(words(new Generator(seed), 203)).toEqual(philoxWords(BigInt(seed), 0n, 203));
    }
    // The offset carries into its upper word.
    generator.setState({ algorithm: 'philox4x32-10', words: [7, -3, -2, 5] });
    const seed = (BigInt.asUintN(32, -3n) << 32n) | 7n;
    expect(words(generator, 99)).toEqual(philoxWords(seed, (5n << 32n) | 0xfffffffen, 99));
  });
});

describe('Generator', () => {
  test('each draw continues after the blocks of the one before', async () => {
    const generator = new Generator(5);
    const first = words(generator, 5);
    const second = words(generator, 4);
    expect([...first, ...second]).not.toEqual(philoxWords(5n, 0n, 9));
    expect(first).toEqual(philoxWords(5n, 0n, 5));
    expect(second).toEqual(philoxWords(5n, 2n, 4));
    expect(await generator.state()).toEqual({ algorithm: 'philox4x32-10', words: [5, 0, 3, 0] });
  });

  test('a state restored from JSON, a clone and a seed replay the numbers', () => {
    const generator = new Generator(11);
    uniform([10], { generator });
    const saved = JSON.stringify(generator.stateSync());
    const twin = generator.clone();
    const expected = list(normal([17], { generator }));
    expect(list(normal([17], { generator: twin }))).toEqual(expected);
    expect(list(normal([17], { generator: new Generator().setState(JSON.parse(saved)) }))).toEqual(
      expected,
    );
    generator.seed(11);
    twin.seed(11);
    expect(list(uniform([3], { generator }))).toEqual(list(uniform([3], { generator: twin })));
  });

  test('manualSeed seeds the default', () => {
    manualSeed(3);
    const a = list(uniform([5]));
    expect(list(uniform([5]))).not.toEqual(a);
    manualSeed(3);
    expect(list(uniform([5]))).toEqual(a);
    expect(list(uniform([5], { generator: new Generator(3) }))).toEqual(a);
  });

  test('outlives the scope it was made in', () => {
    const generator = tidy(() => new Generator(1));
    expect(uniform([2], { generator }).shape).toEqual([2]);
  });

  test('wrong arguments are named', () => {
    expect(() => new Generator(1.5)).toThrow(/seed.*1\.5/);
    expect(() => new Generator(0).setState({ algorithm: 'mt' } as never)).toThrow(CheckpointError);
    expect(() =>
      new Generator(0).setState({ algorithm: 'philox4x32-10', words: [0, 0, 0, 2 ** 31] }),
    ).toThrow(CheckpointError);
    expect(() => uniform([2], { generator: {} as never })).toThrow(/generator.*new Generator/);
  });
});

describe('fills', () => {
  test('uniform follows its formula in every dtype', () => {
    const u = philoxWords(9n, 0n, 77).map((w) => (w >>> 8) * 2 ** -24);
    for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
      const y = uniform([7, 11], { low: -2, high: 6, dtype, generator: new Generator(9) });
      expect(y.shape).toEqual([7, 11]);
      expect(y.dtype).toBe(dtype);
      const tolerance = { f64: 1e-6, f32: 1e-6, bf16: 2 ** -6, f16: 2 ** -9 }[dtype];
      list(y).forEach((x, i) => {
        expect(Math.abs(x - (8 * (u[i] as number) - 2))).toBeLessThanOrEqual(tolerance);
      });
    }
  });

  test('normal is the transform of its words', () => {
    const w = philoxWords(21n, 0n, 1001).concat(philoxWords(21n, 0n, 1004).slice(1001));
    const y = list(normal([1001], { mean: 1, std: 2, generator: new Generator(21) }));
    y.forEach((x, i) => {
      const [a, b] = [w[i - (i % 2)] as number, w[i - (i % 2) + 1] as number];
      const radius = Math.sqrt(-2 * Math.log(((a >>> 8) + 1) * 2 ** -24));
      const angle = 2 * Math.PI * (b >>> 8) * 2 ** -24;
      const z = radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
      expect(Math.abs(x - (1 + 2 * z))).toBeLessThan(4e-6);
    });
  });

  test('normal is bit-equal everywhere: a fixed sum of bits', () => {
    const y = normal([4096], { generator: new Generator(1) }).dataSync() as Float32Array;
    let hash = 0;
    for (const bits of new Int32Array(y.buffer)) hash = (Math.imul(hash, 31) + bits) | 0;
    expect(hash).toBe(710028112);
  });

  test('moments and tails are those of the distribution', () => {
    const n = 1 << 18;
    const z = values(normal([n], { generator: new Generator(2) }));
    const moment = (k: number) => z.reduce((sum, x) => sum + x ** k, 0) / n;
    expect(Math.abs(moment(1))).toBeLessThan(0.01);
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.01);
    expect(Math.abs(moment(3))).toBeLessThan(0.03);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.1);
    const beyond = z.filter((x) => Math.abs(x) > 3).length / n;
    expect(Math.abs(beyond - 0.0027)).toBeLessThan(0.0005);
    expect(z.every(Number.isFinite)).toBe(true);
  });

  test('bernoulli is u < p, in any dtype', () => {
    const u = philoxWords(4n, 0n, 200).map((w) => (w >>> 8) * 2 ** -24);
    for (const dtype of ['u8', 'i32', 'f32', 'bf16'] as const) {
      const y = bernoulli([200], { p: 0.25, dtype, generator: new Generator(4) });
      expect(y.dtype).toBe(dtype);
      expect(list(y)).toEqual(u.map((x) => (x < 0.25 ? 1 : 0)));
    }
    expect(list(bernoulli([64], { p: 0 }))).toEqual(new Array(64).fill(0));
    expect(list(bernoulli([64], { p: 1 }))).toEqual(new Array(64).fill(1));
  });

  test('randint covers its range evenly and nothing else', () => {
    const counts = new Array<number>(7).fill(0);
    for (const x of list(randint([70000], -3, 4, { generator: new Generator(8) }))) {
      counts[x + 3] = (counts[x + 3] as number) + 1;
    }
    for (const c of counts) expect(Math.abs(c - 10000)).toBeLessThan(500);
    expect(list(randint([3], 5, 6))).toEqual([5, 5, 5]);
  });

  test('permutation holds every number once, in the order of the words', () => {
    const order = list(permutation(239, { generator: new Generator(6) }));
    const w = philoxWords(6n, 0n, 239);
    expect(order).toEqual(
      Array.from({ length: 239 }, (_, i) => i).sort(
        (a, b) => (w[a] as number) - (w[b] as number) || a - b,
      ),
    );
    expect(permutation(0).shape).toEqual([0]);
  });

  test('empty shapes and scalars', () => {
    expect(normal([0, 3]).shape).toEqual([0, 3]);
    expect(uniform([]).shape).toEqual([]);
  });

  test('wrong arguments are named', () => {
    expect(() => uniform([2], { low: 2, high: 1 })).toThrow(/uniform: 'high' is 1/);
    expect(() => uniform([-1])).toThrow(/uniform: 'shape' is -1/);
    expect(() => uniform([2], { dtype: 'i32' })).toThrow(/'dtype' is i32/);
    expect(() => uniform([2], { dtype: 'f8' as never })).toThrow(ArgumentError);
    expect(() => normal([2], { std: -1 })).toThrow(/'std' is -1/);
    expect(() => normal([2], { mean: Number.NaN })).toThrow(/'mean' is NaN/);
    expect(() => bernoulli([2], { p: 1.5 })).toThrow(/'p' is 1\.5/);
    expect(() => randint([2], 3, 3)).toThrow(/'high' is 3/);
    expect(() => randint([2], 0, 2 ** 31 + 1)).toThrow(/'high'/);
    expect(() => permutation(-1)).toThrow(/'n' is -1/);
    expect(() => uniform([2], { hihg: 3 } as never)).toThrow(/Did you mean 'high'/);
  });
});

describeCuda('on cuda', () => {
  const both = (draw: (options: { generator: Generator }) => Tensor): void => {
    expectSameOnCuda((on) => {
      const generator = new Generator(77, on);
      const first = draw({ generator });
      return [first, draw({ generator })]; // the second draw sees an advanced state
    });
  };

  test.each(['f32', 'f16', 'bf16'] as const)('the same numbers in %s, to the last bit', (dtype) => {
    for (const shape of [[1], [6], [1003], [3, 0]]) {
      both((options) => uniform(shape, { low: -1.3, high: 0.7, dtype, ...options }));
      both((options) => normal(shape, { mean: 0.3, std: 1.7, dtype, ...options }));
    }
    both((options) => normal([4096], { dtype, ...options }));
  });

  test('choices, integers and permutations', () => {
    for (const dtype of ['f32', 'bf16', 'i32', 'u8'] as const) {
      both((options) => bernoulli([1001], { p: 0.3, dtype, ...options }));
    }
    both((options) => randint([1001], -7, 9, options));
    both((options) => randint([100], -(2 ** 31), 2 ** 31, options));
    for (const n of [0, 1, 255, 256, 5000, 12000]) both((options) => permutation(n, options));
  });
});
