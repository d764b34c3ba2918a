export type { Activation } from './activation-backward.js';
export { type CrossEntropyOptions, crossEntropy } from './cross-entropy.js';
export { type DropoutOptions, dropout } from './dropout.js';
export { type LayerNormOptions, layerNorm } from './layer-norm.js';
export { type LinearOptions, linear } from './linear.js';
export { type MatmulOptions, matmul } from './matmul.js';
export { bernoulli, normal, permutation, type RandomOptions, randint, uniform } from './random.js';
export { type RmsNormOptions, rmsNorm } from './rms-norm.js';
export { logSoftmax, softmax } from './softmax.js';
