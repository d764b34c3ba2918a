/** Initial values, written into a tensor in place. All return the tensor. */
import { noGrad } from '../core/autograd/index.js';
import { fromBytes } from '../core/create.js';
import { asTensor, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import type { Generator } from '../core/generator.js';
import { checkNumbers, checkOptions } from '../core/options.js';
import { full } from '../core/primitives.js';
import type { Tensor } from '../core/tensor.js';
import { normal as drawNormal, uniform as drawUniform } from '../dense/index.js';
import { checkChoice } from './layers/options.js';
import { write } from './module.js';

/** Where initial values come from. */
export interface InitialiseOptions {
  /** Default: the default generator of the tensor's device. */
  generator?: Generator;
}

/** Options of the Xavier initialisers. */
export interface XavierOptions extends InitialiseOptions {
  /** Factor on the scale. Default 1. */
  gain?: number;
}

/** Options of the Kaiming initialisers. */
export interface KaimingOptions extends XavierOptions {
  /** Keeps variance in the forward pass (`in`, the default) or in the backward pass (`out`). */
  fan?: 'in' | 'out';
}

function fill(operator: string, t: Tensor, make: () => Tensor): Tensor {
  asTensor(operator, 't', t);
  return noGrad(() => {
    const values = make();
    write(t, values);
    values.dispose();
    return t;
  });
}

/** Inputs and outputs of one unit: [out, in, ...kernel]. */
function fans(operator: string, t: Tensor): { in: number; out: number } {
  if (asTensor(operator, 't', t).rank < 2) {
    throw new ArgumentError(
      'ERR_RANK',
      operator,
      't',
      t.toString(),
      'Fan-in and fan-out need at least the axes [out, in]',
    );
  }
  const [out, inputs, ...kernel] = t.shape as [number, number, ...number[]];
  const field = kernel.reduce((n, d) => n * d, 1);
  return { in: inputs * field, out: out * field };
}

/** One value everywhere. */
function constant(t: Tensor, value: number): Tensor {
  return fill('constant', t, () => full([], value, { dtype: t.dtype, device: t.device }));
}

/** Uniform in [low, high). */
function uniform(
  t: Tensor,
  options: InitialiseOptions & { low?: number; high?: number } = {},
): Tensor {
  checkOptions('uniform', options, ['low', 'high', 'generator']);
  const draw = () => drawUniform(t.shape, { ...options, dtype: t.dtype, device: t.device });
  return fill('uniform', t, draw);
}

/** Normal with the given mean (default 0) and standard deviation (default 1). */
function normal(t: Tensor, options: InitialiseOptions & { mean?: number; std?: number } = {}) {
  checkOptions('normal', options, ['mean', 'std', 'generator']);
  const draw = () => drawNormal(t.shape, { ...options, dtype: t.dtype, device: t.device });
  return fill('normal', t, draw);
}

/**
 * Normal, cut off beyond `low` and `high` (default: two standard deviations around the mean), by the
 * inverse of the distribution function. Computed on the host: waits for the device.
 */
function truncatedNormal(
  t: Tensor,
  options: InitialiseOptions & { mean?: number; std?: number; low?: number; high?: number } = {},
): Tensor {
  const operator = 'truncatedNormal';
  checkOptions(operator, options, ['mean', 'std', 'low', 'high', 'generator']);
  const { mean = 0, std = 1, generator } = options;
  const { low = mean - 2 * std, high = mean + 2 * std } = options;
  checkNumbers(operator, { mean, std, low, high });
  if (!(std > 0 && low < high)) {
    const value = `${show(low)}..${show(high)} with std ${show(std)}`;
    const remedy = 'Give low < high and a positive std';
    throw new ArgumentError('ERR_OPTION', operator, 'low', value, remedy);
  }
  return fill(operator, t, () => {
    const draw = drawUniform(t.shape, { device: t.device, ...(generator && { generator }) });
    const u = draw.dataSync() as Float32Array;
    draw.dispose();
    const from = distribution((low - mean) / std);
    const to = distribution((high - mean) / std);
    const values = Float64Array.from(u, (x) => {
      const z = quantile(from + (to - from) * (x + 2 ** -25));
      return Math.min(high, Math.max(low, mean + std * z));
    });
    return fromBytes(values, t.shape, 'f64', t.device);
  });
}

/** Uniform with variance 2 gain^2 / (in + out) (Glorot and Bengio 2010). */
function xavierUniform(t: Tensor, options: XavierOptions = {}): Tensor {
  checkOptions('xavierUniform', options, ['gain', 'generator']);
  const { gain = 1, ...rest } = options;
  checkNumbers('xavierUniform', { gain });
  const fan = fans('xavierUniform', t);
  const bound = gain * Math.sqrt(6 / (fan.in + fan.out));
  return uniform(t, { ...rest, low: -bound, high: bound });
}

/** Normal with variance 2 gain^2 / (in + out) (Glorot and Bengio 2010). */
function xavierNormal(t: Tensor, options: XavierOptions = {}): Tensor {
  checkOptions('xavierNormal', options, ['gain', 'generator']);
  const { gain = 1, ...rest } = options;
  checkNumbers('xavierNormal', { gain });
  const fan = fans('xavierNormal', t);
  return normal(t, { ...rest, std: gain * Math.sqrt(2 / (fan.in + fan.out)) });
}

/** Uniform with variance gain^2 / fan; the default gain sqrt(2) is that for relu (He et al. 2015). */
function kaimingUniform(t: Tensor, options: KaimingOptions = {}): Tensor {
  checkOptions('kaimingUniform', options, ['gain', 'fan', 'generator']);
  const { gain = Math.SQRT2, fan = 'in', ...rest } = options;
  checkNumbers('kaimingUniform', { gain });
  checkChoice('kaimingUniform', 'fan', fan, ['in', 'out']);
  const bound = gain * Math.sqrt(3 / fans('kaimingUniform', t)[fan]);
  return uniform(t, { ...rest, low: -bound, high: bound });
}

/** Normal with variance gain^2 / fan; the default gain sqrt(2) is that for relu (He et al. 2015). */
function kaimingNormal(t: Tensor, options: KaimingOptions = {}): Tensor {
  checkOptions('kaimingNormal', options, ['gain', 'fan', 'generator']);
  const { gain = Math.SQRT2, fan = 'in', ...rest } = options;
  checkNumbers('kaimingNormal', { gain });
  checkChoice('kaimingNormal', 'fan', fan, ['in', 'out']);
  return normal(t, { ...rest, std: gain / Math.sqrt(fans('kaimingNormal', t)[fan]) });
}

/**
 * Initialisers. Each overwrites a tensor and returns it; none is recorded.
 *
 * @example
 * const layer = new Linear(4, 8);
 * initialise.xavierUniform(layer.weight, { generator: new Generator(1) });
 */
export const initialise = {
  constant,
  uniform,
  normal,
  truncatedNormal,
  xavierUniform,
  xavierNormal,
  kaimingUniform,
  kaimingNormal,
} as const;

/** Standard normal distribution function. */
function distribution(z: number): number {
  return 0.5 * erfc(-z / Math.SQRT2);
}

/** erfc by the Chebyshev fit of Numerical Recipes (2nd edition, 6.2), relative error 1.2e-7. */
function erfc(x: number): number {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const coefficients = [
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
    0.37409196, 1.00002368, -1.26551223,
  ];
  const polynomial = coefficients.reduce((sum, c) => sum * t + c, 0);
  const tail = t * Math.exp(-x * x + polynomial);
  return x >= 0 ? tail : 2 - tail;
}

/** Inverse of the standard normal distribution function (Acklam's rational fit, 1.2e-9). */
function quantile(p: number): number {
  const a = [
    -3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.38357751867269e2,
    -3.066479806614716e1, 2.506628277459239,
  ];
  const b = [
    -5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1,
    -1.328068155288572e1, 1,
  ];
  const c = [
    -7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838, -2.549732539343734,
    4.374664141464968, 2.938163982698783,
  ];
  const d = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1];
  const horner = (terms: readonly number[], x: number) => terms.reduce((sum, k) => sum * x + k, 0);
  if (p > 0.5) return -quantile(1 - p);
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    return horner(c, q) / horner(d, q);
  }
  const q = p - 0.5;
  return (horner(a, q * q) * q) / horner(b, q * q);
}
