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
export {
  type AttentionDecodeOptions,
  attentionDecode,
  attentionDecodeShared,
  type DecodingCache,
} from './decode.js';
export type { AppendRotary } from './kv-append.js';
export { KvCache, type KvCacheOptions } from './kv-cache.js';
export { KvPages, type KvPagesOptions } from './kv-pages.js';
export { mergeAttention } from './merge.js';
export type {
  AttentionOptions,
  AttentionWindow,
  ForQueriesAndKeys,
  SequenceBoundaries,
} from './options.js';
export { PagedKvCache, type PagedKvCacheOptions } from './paged-kv-cache.js';
export type { AttentionConfig, AttentionSupport } from './supported.js';
