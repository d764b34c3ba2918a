export {
  BatchSampler,
  type BatchSamplerOptions,
  type BatchSamplerState,
  type EvaluationOptions,
  evaluationBatches,
  type TextBatch,
} from './batches.js';
export {
  type Corpus,
  concatenate,
  type LoadCorpusOptions,
  loadCorpus,
  type SkippedFile,
  type TextFile,
} from './corpus.js';
export {
  fitNgram,
  type NgramBaselines,
  NgramModel,
  type NgramOptions,
  type NgramText,
  ngramBaselines,
} from './ngram.js';
export { type CorpusSplit, type SplitOptions, splitCorpus } from './split.js';
export { ByteVocabulary, type TextDecoderStream } from './vocabulary.js';
