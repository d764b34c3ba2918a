export type { Activation } from './activation-backward.js';
export { gelu, relu, reluSquared, silu } from './activations.js';
export { add, div, mul, type Operand, sub } from './binary.js';
export { type CategoricalOptions, categorical } from './categorical.js';
export * from './compare.js';
export { concat, stack } from './concat.js';
export { type CrossEntropyOptions, crossEntropy } from './cross-entropy.js';
export { cumsum } from './cumsum.js';
export { type DropoutOptions, dropout } from './dropout.js';
export { argmax, argmin, max, min } from './extremum.js';
export * from './gated.js';
export { gather, scatterAdd } from './gather.js';
export { embedding, indexSelect } from './index-select.js';
export { type LayerNormOptions, layerNorm } from './layer-norm.js';
export { type LinearOptions, linear } from './linear.js';
export { type MatmulOptions, matmul } from './matmul.js';
export { maximum, minimum } from './maximum.js';
export { mean, variance } from './mean.js';
export { oneHot } from './one-hot.js';
export { clipCoefficient, type GradNormOptions, gradNorm } from './optimizer.js';
export { pow } from './pow.js';
export { bernoulli, normal, permutation, type RandomOptions, randint, uniform } from './random.js';
export { flip, repeat, tile } from './repeat.js';
export { type RmsNormOptions, rmsNorm } from './rms-norm.js';
export { type RotaryOptions, rotary } from './rotary.js';
export { logSoftmax, softmax } from './softmax.js';
export { type Ordered, sort, topK } from './sort.js';
export { expand, type ReduceOptions, sum } from './sum.js';
export { tril, triu } from './triangle.js';
export {
  abs,
  cos,
  erf,
  exp,
  floor,
  log,
  neg,
  reciprocal,
  round,
  rsqrt,
  sigmoid,
  sign,
  sin,
  softplus,
  sqrt,
  square,
  tanh,
} from './unary.js';
export { where } from './where.js';
