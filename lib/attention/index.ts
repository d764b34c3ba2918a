export { type AttentionOptions, type AttentionWindow, attention } from './attention.js';
export { type AttentionDecodeOptions, attentionDecode } from './decode.js';
export { KvCache, type KvCacheOptions } from './kv-cache.js';
