export { Adam, type AdamOptions, AdamW } from './adam.js';
export { clipGradNorm, clipGradValue } from './clip.js';
export {
  type CommonOptions,
  Optimizer,
  type ParameterGroup,
  type StepOptions,
  type TrainedParameters,
} from './optimizer.js';
export {
  type ConstantOptions,
  type CosineOptions,
  constantSchedule,
  cosineSchedule,
  type NoamOptions,
  noamSchedule,
  type Schedule,
  type WarmupOptions,
  warmupSchedule,
} from './schedules.js';
export { SGD, type SgdOptions } from './sgd.js';
