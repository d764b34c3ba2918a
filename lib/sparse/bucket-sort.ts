/** Positions in the order of their groups. */
import { field, nativeOperator } from '../core/declare.js';
import { checkFlags, checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const bucketSortCall = nativeOperator('bucketSort', {
  groups: field.input,
  count: field.integer,
  withInverse: field.flag,
  order: field.output,
  offsets: field.output,
  inverse: field.output,
});

/** Positions sorted by group; see {@link bucketSort}. */
export interface BucketOrder {
  /** i32 [..., N]: positions in the order of (group, position). */
  order: Tensor;
  /** i32 [..., count + 1]: where in `order` each group begins; the last entry is where padding begins. */
  offsets: Tensor;
  /** i32 [..., N]: the place of each position in `order`. Only if asked for. */
  inverse?: Tensor;
}

/**
 * Sorts the positions of each line by group, stably and in linear time: buckets of a hash, clusters of
 * k-means.
 *
 * @param groups i32 [..., N]; an id below 0 or from `count` on is padding and sorts behind all groups
 * @param count the number of groups, from 1 to 2^24
 * @param options.inverse also return each position's place. Default false
 * @throws ArgumentError for another dtype or a count out of range
 * @example
 * const { order, offsets } = bucketSort(tensor([1, 0, 2, 1, 0], { dtype: 'i32' }), 2);
 * order.dataSync(); // 1, 4, 0, 3, 2
 * offsets.dataSync(); // 0, 2, 4
 */
export function bucketSort(
  groups: Tensor,
  count: number,
  options: { inverse?: boolean } = {},
): BucketOrder {
  checkOptions('bucketSort', options, ['inverse']);
  const { inverse = false } = options;
  checkFlags('bucketSort', { inverse });
  const sorted = bucketSortCall({ groups, count, withInverse: inverse });
  const { order, offsets } = sorted;
  return inverse ? { order, offsets, inverse: sorted.inverse } : { order, offsets };
}
