export { alibiSlopes } from './alibi.js';
export { attention } from './attention.js';
export {
  type BlockLists,
  BlockMask,
  type BlockMaskOptions,
  type MaskPlaces,
  type MaskPredicate,
  MaskValue,
  type PatternOptions,
} from './block-mask/index.js';
export { type AttentionDecodeOptions, attentionDecode } from './decode.js';
export { KvCache, type KvCacheOptions } from './kv-cache.js';
export { mergeAttention } from './merge.js';
export type {
  AttentionOptions,
  AttentionWindow,
  ForQueriesAndKeys,
  SequenceBoundaries,
} from './options.js';
export type { AttentionConfig, AttentionSupport } from './supported.js';
