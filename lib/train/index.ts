export { averageCheckpoints } from './average.js';
export {
  type CheckpointContent,
  type CheckpointInfo,
  loadCheckpoint,
  type ModelDescription,
  readCheckpointInfo,
  saveCheckpoint,
} from './checkpoint.js';
export type { Capturable, DecoderState } from './decoding-loop.js';
export { type DecoderModel, type GenerateOptions, generate } from './generate.js';
export { type GenerateTextOptions, generateText } from './generate-text.js';
export { type Evaluation, History, type HistoryState } from './history.js';
export {
  type EvaluateTextOptions,
  evaluateText,
  loadTextData,
  type NextTokenModel,
  type TextData,
  type TextDataOptions,
  textLoss,
} from './language.js';
export { loadLanguageModel } from './language-model.js';
export type { LossScaleOptions } from './loss-scale.js';
export { findCheckpoint, openRun, RunDirectory, type StoredCheckpoint } from './run-directory.js';
export type { SamplingOptions } from './sampling.js';
export { type BatchSource, textSource } from './source.js';
export {
  finishRun,
  type LanguageModelName,
  type LanguageRecipe,
  type LanguageRunOptions,
  makeLanguageModel,
  trainLanguageModel,
} from './train-language-model.js';
export { type TrainOptions, type TrainProgress, type TrainResult, train } from './trainer.js';
export type { UpdaterOptions } from './updater.js';
