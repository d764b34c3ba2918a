// lib/attention
export * from './attention/index.js';
// lib/core
export {
  type AtomicFile,
  openAtomicFile,
  writeFileAtomic,
  writeFileAtomicSync,
} from './core/atomic-file.js';
export {
  bf16ToF32,
  type Float16ArrayLike,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  float16View,
  hasFloat16Array,
} from './core/half.js';
export * from './core/index.js';
export { hashText, Random, type RandomState } from './core/random.js';
export * from './core/safetensors/index.js';

// lib/dense
export * from './dense/index.js';
// lib/models
export * from './models/index.js';
// lib/nn
export { type SinusoidalOptions, sinusoidalPositions } from './nn/functional/sinusoidal.js';
export * from './nn/index.js';
// lib/optim
export * from './optim/index.js';
// lib/sparse
export * from './sparse/index.js';
// lib/train
export {
  type BeamScorer,
  type BeamSearchOptions,
  type BeamStep,
  beamSearch,
  type Hypothesis,
} from './train/beam-search.js';
export * from './train/index.js';
export { type BleuOptions, type BleuScore, corpusBleu, type Tokens } from './train/metrics/bleu.js';
export { exactMatch } from './train/metrics/exact-match.js';
export {
  type CurveOptions,
  type CurveReference,
  type CurveSeries,
  renderCurveSvg,
} from './train/report/curve.js';
export * from './train/text/index.js';
