export { type BucketOrder, bucketSort } from './bucket-sort.js';
export {
  clusterMembers,
  clusterSums,
  commitmentLoss,
  type KmeansState,
  type KmeansUpdateOptions,
  kmeansAssign,
  kmeansInitialise,
  kmeansUpdate,
  type TokenLengths,
} from './kmeans.js';
export {
  type LshAttentionOperatorOptions,
  type LshPreset,
  lshAttention,
  lshAttentionLse,
} from './lsh-attention.js';
export { type LshBucketsOptions, lshBuckets, lshRotations } from './lsh-buckets.js';
export { LshCache, type LshCacheOptions, lshStep } from './lsh-step.js';
export { type RoutingAttentionOperatorOptions, routingAttention } from './routing-attention.js';
export { RoutingCache, type RoutingCacheOptions, routingStep } from './routing-step.js';
export {
  type SortedAttentionOptions,
  type SortedPattern,
  type SortedTokens,
  sortedAttention,
} from './sorted-attention.js';
