/** Tensors of random numbers. Equal seeds give equal numbers, whatever the device or thread count. */
import { field, nativeOperator } from '../core/declare.js';
import { type Device, device as deviceOf } from '../core/device.js';
import { type DType, dtypeIndex } from '../core/dtype.js';
import { type Generator, generatorFor } from '../core/generator.js';
import { checkOptions } from '../core/options.js';
import type { Shape, Tensor } from '../core/tensor.js';

const uniformCall = nativeOperator('uniform', {
  state: field.input,
  shape: field.integers,
  dtype: field.integer,
  low: field.number,
  high: field.number,
  y: field.output,
});

const normalCall = nativeOperator('normal', {
  state: field.input,
  shape: field.integers,
  dtype: field.integer,
  mean: field.number,
  std: field.number,
  y: field.output,
});

const bernoulliCall = nativeOperator('bernoulli', {
  state: field.input,
  shape: field.integers,
  dtype: field.integer,
  p: field.number,
  y: field.output,
});

const randintCall = nativeOperator('randint', {
  state: field.input,
  shape: field.integers,
  low: field.integer,
  high: field.integer,
  y: field.output,
});

const permutationCall = nativeOperator('permutation', {
  state: field.input,
  n: field.integer,
  y: field.output,
});

/** Where random numbers come from and where they go. */
export interface RandomOptions {
  /** Default: the default generator of the device. */
  generator?: Generator;
  /** Default: that of the generator, else `cpu`. */
  device?: Device | string;
}

const placement = ['generator', 'device'] as const;

/** Runs `call` with the state reserved for `count` words. */
function drawing(
  operator: string,
  { generator, device }: RandomOptions,
  count: number,
  call: (state: Tensor) => { y: Tensor },
): Tensor {
  const on = device === undefined && generator ? generator.device : deviceOf(device);
  const words = Number.isSafeInteger(count) && count > 0 ? count : 0;
  const state = generatorFor(operator, generator, on).draw(words);
  try {
    return call(state).y;
  } finally {
    state.dispose();
  }
}

const sizeOf = (shape: Shape) => (Array.isArray(shape) ? shape.reduce((n, d) => n * d, 1) : 0);
const indexOf = (dtype: DType) => dtypeIndex[dtype] ?? -1;

/**
 * Independent numbers from [low, high): low + (high - low) u with u a multiple of 2^-24, computed in f32
 * and then converted, so rounding may reach `high`.
 *
 * @param options.dtype default `f32`
 * @throws ArgumentError when high < low, or for a shape or dtype that cannot be
 * @example
 * const x = uniform([2, 3], { low: -1, high: 1, generator: new Generator(1) });
 */
export function uniform(
  shape: Shape,
  options: RandomOptions & { low?: number; high?: number; dtype?: DType } = {},
): Tensor {
  checkOptions('uniform', options, ['low', 'high', 'dtype', ...placement]);
  const { low = 0, high = 1, dtype = 'f32' } = options;
  return drawing('uniform', options, sizeOf(shape), (state) =>
    uniformCall({ state, shape, dtype: indexOf(dtype), low, high }),
  );
}

/**
 * Independent normal numbers, by Box and Muller's transform in f32 with fixed arithmetic; magnitudes
 * end at 5.77 standard deviations.
 *
 * @param options.std standard deviation, default 1; `options.mean` default 0
 * @param options.dtype default `f32`
 * @example
 * const w = normal([64, 64], { std: 0.02 });
 */
export function normal(
  shape: Shape,
  options: RandomOptions & { mean?: number; std?: number; dtype?: DType } = {},
): Tensor {
  checkOptions('normal', options, ['mean', 'std', 'dtype', ...placement]);
  const { mean = 0, std = 1, dtype = 'f32' } = options;
  return drawing('normal', options, sizeOf(shape), (state) =>
    normalCall({ state, shape, dtype: indexOf(dtype), mean, std }),
  );
}

/**
 * Ones with probability `p`, else zeros. `p` counts in steps of 2^-24.
 *
 * @param options.p default 0.5
 * @param options.dtype default `f32`; `u8` makes a mask
 * @example
 * const mask = bernoulli([4, 4], { p: 0.15, dtype: 'u8' });
 */
export function bernoulli(
  shape: Shape,
  options: RandomOptions & { p?: number; dtype?: DType } = {},
): Tensor {
  checkOptions('bernoulli', options, ['p', 'dtype', ...placement]);
  const { p = 0.5, dtype = 'f32' } = options;
  return drawing('bernoulli', options, sizeOf(shape), (state) =>
    bernoulliCall({ state, shape, dtype: indexOf(dtype), p }),
  );
}

/**
 * Independent i32 integers from [low, high). The bias against exact uniformity is below (high - low) / 2^32.
 *
 * @example
 * const ids = randint([2, 8], 0, 256);
 */
export function randint(
  shape: Shape,
  low: number,
  high: number,
  options: RandomOptions = {},
): Tensor {
  checkOptions('randint', options, placement);
  return drawing('randint', options, sizeOf(shape), (state) =>
    randintCall({ state, shape, low, high }),
  );
}

/**
 * 0 ... n - 1 in random order, i32[n].
 *
 * @example
 * const order = permutation(10);
 */
export function permutation(n: number, options: RandomOptions = {}): Tensor {
  checkOptions('permutation', options, placement);
  return drawing('permutation', options, n, (state) => permutationCall({ state, n }));
}
