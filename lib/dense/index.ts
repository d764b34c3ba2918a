export { type DropoutOptions, dropout } from './dropout.js';
export { bernoulli, normal, permutation, type RandomOptions, randint, uniform } from './random.js';
