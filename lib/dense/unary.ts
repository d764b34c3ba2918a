/** Functions of one element. */
import { type Context, defineOperator, isRecording } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import type { Tensor } from '../core/tensor.js';
import { div, mul, sub } from './binary.js';

const kinds = [
  'exp',
  'log',
  'sqrt',
  'rsqrt',
  'abs',
  'neg',
  'sin',
  'cos',
  'tanh',
  'sigmoid',
  'erf',
  'square',
  'reciprocal',
  'softplus',
  'relu',
  'reluSquared',
  'gelu',
  'geluTanh',
  'silu',
  'floor',
  'round',
  'sign',
] as const;
/** @internal */
export type UnaryKind = (typeof kinds)[number];

const unaryCall = nativeOperator('unary', {
  x: field.input,
  kind: field.choice(...kinds),
  y: field.output,
});

const unaryBackwardCall = nativeOperator('unaryBackward', {
  gradY: field.input,
  saved: field.input,
  kind: field.choice(...kinds),
  gradX: field.output,
});

/** Functions whose slope is best told from their result. */
const fromOutput: ReadonlySet<UnaryKind> = new Set<UnaryKind>([
  'exp',
  'sqrt',
  'rsqrt',
  'tanh',
  'sigmoid',
  'reciprocal',
  'relu',
]);

/**
 * @internal A differentiable elementwise function. Its gradient is one kernel, or, where that is to be
 * differentiated again, the gradient times `slope`.
 *
 * @param slope of the argument, or of the result for the kinds of `fromOutput`, made of recorded operators
 */
export function elementwise(
  kind: UnaryKind,
  slope: ((saved: Tensor) => Tensor | number) | null,
): (x: Tensor) => Tensor {
  return defineOperator({
    name: kind,
    composed: true,
    forward(ctx: Context, x: Tensor): Tensor {
      const { y } = unaryCall({ x, kind }, undefined, kind);
      ctx.save(fromOutput.has(kind) ? y : x);
      return y;
    },
    backward(ctx, gradY) {
      if (!gradY) return [null];
      const [saved] = ctx.saved() as [Tensor];
      if (slope && isRecording()) return [mul(gradY, slope(saved))];
      return [unaryBackwardCall({ gradY, saved, kind }).gradX];
    },
  });
}

const expOperator = elementwise('exp', (y) => y);
/**
 * e^x, below 1 ulp in f32.
 * @example
 * exp(tensor([0, 1])); // 1, 2.718...
 */
export function exp(x: Tensor): Tensor {
  return expOperator(x);
}

const logOperator = elementwise('log', (x) => div(1, x));
/**
 * Natural logarithm; NaN below 0, -inf at 0.
 * @example
 * log(tensor([1, Math.E])); // 0, 1
 */
export function log(x: Tensor): Tensor {
  return logOperator(x);
}

const sqrtOperator = elementwise('sqrt', (y) => div(0.5, y));
/**
 * Square root; NaN below 0. The gradient at 0 is infinite.
 * @example
 * sqrt(tensor([4, 9])); // 2, 3
 */
export function sqrt(x: Tensor): Tensor {
  return sqrtOperator(x);
}

const rsqrtOperator = elementwise('rsqrt', (y) => mul(mul(y, mul(y, y)), -0.5));
/**
 * 1 / sqrt(x).
 * @example
 * rsqrt(tensor([4])); // 0.5
 */
export function rsqrt(x: Tensor): Tensor {
  return rsqrtOperator(x);
}

const absOperator = elementwise('abs', (x) => sign(x));
/**
 * |x|; gradient 0 at 0.
 * @example
 * abs(tensor([-2, 3])); // 2, 3
 */
export function abs(x: Tensor): Tensor {
  return absOperator(x);
}

const negOperator = elementwise('neg', () => -1);
/**
 * -x.
 * @example
 * neg(tensor([1, -2])); // -1, 2
 */
export function neg(x: Tensor): Tensor {
  return negOperator(x);
}

const sinOperator: (x: Tensor) => Tensor = elementwise('sin', (x) => cos(x));
/**
 * Sine of radians.
 * @example
 * sin(tensor([0, Math.PI / 2])); // 0, 1
 */
export function sin(x: Tensor): Tensor {
  return sinOperator(x);
}

const cosOperator: (x: Tensor) => Tensor = elementwise('cos', (x) => mul(sin(x), -1));
/**
 * Cosine of radians.
 * @example
 * cos(tensor([0, Math.PI])); // 1, -1
 */
export function cos(x: Tensor): Tensor {
  return cosOperator(x);
}

const tanhOperator = elementwise('tanh', (y) => sub(1, mul(y, y)));
/**
 * Hyperbolic tangent.
 * @example
 * tanh(tensor([0, 100])); // 0, 1
 */
export function tanh(x: Tensor): Tensor {
  return tanhOperator(x);
}

const sigmoidOperator = elementwise('sigmoid', (y) => mul(y, sub(1, y)));
/**
 * 1 / (1 + e^-x).
 * @example
 * sigmoid(tensor([0, 100])); // 0.5, 1
 */
export function sigmoid(x: Tensor): Tensor {
  return sigmoidOperator(x);
}

const erfOperator = elementwise('erf', (x) => mul(exp(mul(mul(x, x), -1)), 2 / Math.sqrt(Math.PI)));
/**
 * The error function, 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.
 * @example
 * erf(tensor([0, 1])); // 0, 0.8427
 */
export function erf(x: Tensor): Tensor {
  return erfOperator(x);
}

const squareOperator = elementwise('square', (x) => mul(x, 2));
/**
 * x^2.
 * @example
 * square(tensor([-3])); // 9
 */
export function square(x: Tensor): Tensor {
  return squareOperator(x);
}

const reciprocalOperator = elementwise('reciprocal', (y) => mul(mul(y, y), -1));
/**
 * 1 / x.
 * @example
 * reciprocal(tensor([4])); // 0.25
 */
export function reciprocal(x: Tensor): Tensor {
  return reciprocalOperator(x);
}

const softplusOperator = elementwise('softplus', (x) => sigmoid(x));
/**
 * log(1 + e^x), without overflow.
 * @example
 * softplus(tensor([0, 100])); // 0.6931, 100
 */
export function softplus(x: Tensor): Tensor {
  return softplusOperator(x);
}

const floorOperator = elementwise('floor', () => 0);
/**
 * The largest integer not above x. Gradient 0.
 * @example
 * floor(tensor([-0.5, 1.5])); // -1, 1
 */
export function floor(x: Tensor): Tensor {
  return floorOperator(x);
}

const roundOperator = elementwise('round', () => 0);
/**
 * The nearest integer, ties to even. Gradient 0.
 * @example
 * round(tensor([0.5, 1.5])); // 0, 2
 */
export function round(x: Tensor): Tensor {
  return roundOperator(x);
}

const signOperator = elementwise('sign', () => 0);
/**
 * -1, 0 or 1. Gradient 0.
 * @example
 * sign(tensor([-3, 0, 2])); // -1, 0, 1
 */
export function sign(x: Tensor): Tensor {
  return signOperator(x);
}
