/** Buckets of locality-sensitive hashing. */
import { asTensor, field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { Generator } from '../core/generator.js';
import { checkInstance, checkOptions, checkSizes } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { normal } from '../dense/random.js';

const lshBucketsCall = nativeOperator('lshBuckets', {
  x: field.input,
  rotations: field.input,
  lengths: field.optional,
  factors: field.integers,
  buckets: field.output,
});

/** Options of {@link lshBuckets}. */
export interface LshBucketsOptions {
  /**
   * How many buckets a round has: an even number, or even factors of it. A number above 32 is split into the
   * two even factors that are nearest to each other, where there are such: a vector is then hashed once
   * per factor, and b1 b2 buckets cost as much as b1 + b2.
   */
  buckets: number | readonly number[];
  /** Independent hashes of each vector. Default 1. */
  rounds?: number;
  /** Rotations to use, as {@link lshRotations} draws them, rather than new ones. */
  rotations?: Tensor;
  /** Where rotations are drawn from. Default: the device's own generator. */
  generator?: Generator;
  /** i32 [B]: tokens at and beyond are padding, and in no bucket. */
  lengths?: Tensor | null;
}

/**
 * The bucket of each vector in each round (Kitaev et al. 2020): argmax over [x R, -x R], the first of equal
 * products, with rotations R of normal numbers. Vectors at a small angle often share a bucket;
 * their lengths do not matter. Of factors b1, b2, ... the bucket is h1 + b1 (h2 + b2 (...)).
 *
 * @param x [B, H, N, D]; NaN and infinities are an error on the CPU, and in bucket 0 on a GPU
 * @returns i32 [B, H, rounds, N]; padding has the number of buckets, which is no bucket
 * @throws ArgumentError for odd or no buckets, no rounds, rotations of another shape
 * @example
 * const x = normal([1, 2, 100, 16]);
 * const buckets = lshBuckets(x, { buckets: 64, rounds: 4, generator: new Generator(1) });
 * const { order, offsets } = bucketSort(buckets, 64);
 */
export function lshBuckets(x: Tensor, options: LshBucketsOptions): Tensor {
  checkOptions('lshBuckets', options, ['buckets', 'rounds', 'rotations', 'generator', 'lengths']);
  const { buckets, rounds, rotations, generator, lengths } = options;
  const factors = bucketFactors('lshBuckets', buckets);
  if (rotations !== undefined) {
    asTensor('lshBuckets', 'rotations', rotations);
    if (rounds !== undefined && rounds !== rotations.shape[1]) {
      const remedy = `Leave it out: rotations are for ${rotations.shape[1]} rounds`;
      throw new ArgumentError('ERR_VALUE', 'lshBuckets', 'rounds', show(rounds), remedy);
    }
    return lshBucketsCall({ x, rotations, factors, lengths }).buckets;
  }
  const drawn = rotationsFor('lshBuckets', x, factors, rounds, generator);
  try {
    return lshBucketsCall({ x, rotations: drawn, factors, lengths }).buckets;
  } finally {
    drawn.dispose();
  }
}

/**
 * Rotations for {@link lshBuckets}, to hash several tensors alike. The same seed gives the same on every
 * device.
 *
 * @returns f32 [H, rounds, D, columns], one column per two buckets of each factor
 * @example
 * const x = normal([1, 2, 100, 16]);
 * const rotations = lshRotations(x, { buckets: 8, rounds: 2 });
 */
export function lshRotations(
  x: Tensor,
  options: { buckets: number | readonly number[]; rounds?: number; generator?: Generator },
): Tensor {
  checkOptions('lshRotations', options, ['buckets', 'rounds', 'generator']);
  const { buckets, rounds, generator } = options;
  const factors = bucketFactors('lshRotations', buckets);
  return rotationsFor('lshRotations', x, factors, rounds, generator);
}

function rotationsFor(
  operator: string,
  x: Tensor,
  factors: readonly number[],
  rounds = 1,
  generator?: Generator,
): Tensor {
  checkSizes(operator, { rounds });
  if (generator !== undefined) checkInstance(operator, 'generator', generator, Generator);
  if (asTensor(operator, 'x', x).rank !== 4) {
    throw new ArgumentError('ERR_RANK', operator, 'x', show(x), 'It must be [B, H, N, D]');
  }
  const columns = factors.reduce((n, f) => n + f / 2, 0);
  const [, heads, , dim] = x.shape as [number, number, number, number];
  const where = { device: x.device, ...(generator && { generator }) };
  return normal([heads, rounds, dim, columns], where);
}

/** @internal The factors that a number of buckets is hashed by. */
export function bucketFactors(operator: string, buckets: number | readonly number[]): number[] {
  const given: readonly number[] = Array.isArray(buckets) ? buckets : [];
  const factors = typeof buckets === 'number' ? splitBuckets(buckets) : [...given];
  if (
    factors.length === 0 ||
    !factors.every((f) => Number.isSafeInteger(f) && f >= 2 && f % 2 === 0)
  ) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'buckets',
      show(buckets),
      'Use an even number from 2 on, or an array of such factors',
    );
  }
  return factors;
}

const unsplit = 32;

function splitBuckets(buckets: number): number[] {
  if (!Number.isSafeInteger(buckets) || buckets <= unsplit) return [buckets];
  for (let f = Math.floor(Math.sqrt(buckets)); f >= 2; f--) {
    if (f % 2 === 0 && (buckets / f) % 2 === 0) return [f, buckets / f];
  }
  return [buckets];
}
