export { type DropoutOptions, dropout } from './dropout.js';
export { type LayerNormOptions, layerNorm } from './layer-norm.js';
export { bernoulli, normal, permutation, type RandomOptions, randint, uniform } from './random.js';
export { type RmsNormOptions, rmsNorm } from './rms-norm.js';
