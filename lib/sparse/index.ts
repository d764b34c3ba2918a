export { type BucketOrder, bucketSort } from './bucket-sort.js';
export { type LshBucketsOptions, lshBuckets, lshRotations } from './lsh-buckets.js';
