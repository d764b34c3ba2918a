/** Attention among tokens that share a bucket of a random hash. */
import { decideOnce } from '../core/autograd/index.js';
import { asTensor, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import type { Generator } from '../core/generator.js';
import { checkFlags, checkNumbers, checkOptions, checkSizes } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { bucketSort } from './bucket-sort.js';
import { bucketFactors, lshBuckets } from './lsh-buckets.js';
import {
  type SortedAttentionOptions,
  type SortedTokens,
  sortedAttention,
} from './sorted-attention.js';
import { unitKeys } from './unit-keys.js';

/** Conventions of published codes. */
export type LshPreset = 'trax' | 'lucidrains';

/** Options of {@link lshAttention}. */
export interface LshAttentionOperatorOptions
  extends Pick<SortedAttentionOptions, 'causal' | 'scale' | 'selfPenalty' | 'duplicates'> {
  /** An even number of buckets, or even factors of it, see `lshBuckets`. */
  buckets: number | readonly number[];
  /** Independent hashes. Default 4; with `rotations` or `bucketIds`, as many as they have. */
  rounds?: number;
  /** Sorted tokens of a chunk. A query sees its own chunk, `back` before it and `forward` after it. Default 64. */
  chunk?: number;
  /** Default 1. */
  back?: number;
  /** Default 0 where causal, else 1. */
  forward?: number;
  /**
   * Where chunks are cut: `bucket` (default), in each bucket by rank, so that what a query sees never depends on
   * later tokens; `global`, over the sorted tokens of all rounds, as the paper and its codes do. With `global`
   * later tokens shift the chunks of earlier ones: it leaks, even where it is `causal`.
   */
  chunking?: 'bucket' | 'global';
  /** Whether tokens of other buckets in reach are not seen; `chunking: 'global'` only. Default true. */
  sameBucket?: boolean;
  /** A token's pair with itself, see `sortedAttention`. Default `lastResort`. */
  self?: SortedAttentionOptions['self'];
  /**
   * Sets what is not given as a published code has it: chunks cut globally, neighbours of all buckets seen,
   * duplicates counted; `trax` with unscaled scores and self pairs penalised, `lucidrains` without a chunk
   * after one's own. Their penalties of 1e5 and 5e4 are 1000 here, which hides as much and costs f32 no digits.
   */
  preset?: LshPreset;
  /** Rotations to use, see `lshRotations`. */
  rotations?: Tensor;
  /** Where rotations are drawn from. Default: the device's own generator. */
  generator?: Generator;
  /** i32 [B, H, rounds, N]: buckets to use rather than those of a hash. */
  bucketIds?: Tensor;
  /** i32 [B]: tokens at and beyond are padding. */
  lengths?: Tensor | null;
}

const optionNames = [
  ...['buckets', 'rounds', 'chunk', 'chunking', 'back', 'forward', 'causal', 'scale', 'sameBucket'],
  ...['self', 'selfPenalty', 'duplicates', 'preset', 'rotations', 'generator', 'bucketIds'],
  ...['lengths', 'returnRoundLse'],
];

const presets: Readonly<Record<LshPreset, Partial<LshAttentionOperatorOptions>>> = {
  trax: {
    ...{ chunking: 'global', sameBucket: false, duplicates: 'counted' },
    ...{ scale: 1, self: 'penalised' },
  },
  lucidrains: {
    ...{ chunking: 'global', sameBucket: false, duplicates: 'counted' },
    forward: 0,
  },
};

/**
 * As {@link lshAttention}, with the logarithm of each row's sum of exponentials.
 *
 * @returns [output, logSumExp], and with `returnRoundLse` that of each round, as `sortedAttention` gives them
 * @example
 * const [qk, v] = [normal([1, 2, 100, 16]), normal([1, 2, 100, 16])];
 * const [y, lse] = lshAttentionLse(qk, v, { buckets: 8, rounds: 2, chunk: 16 });
 */
export function lshAttentionLse(
  qk: Tensor,
  v: Tensor,
  options: LshAttentionOperatorOptions & { returnRoundLse?: boolean },
): [output: Tensor, logSumExp: Tensor, roundLse?: Tensor] {
  checkOptions('lshAttention', options, optionNames);
  const { preset, returnRoundLse = false } = options;
  if (preset !== undefined && !Object.hasOwn(presets, preset)) {
    const remedy = "Use 'trax' or 'lucidrains', or leave it out";
    throw new ArgumentError('ERR_OPTION', 'lshAttention', 'preset', show(preset), remedy);
  }
  const given = { ...(preset && presets[preset]), ...options };
  checkCombination(given);
  const { causal = false, chunk = 64, back = 1, forward = causal ? 0 : 1 } = given;
  const { chunking = 'bucket', sameBucket = true, lengths = null } = given;
  const { self = 'lastResort', selfPenalty, duplicates = 'corrected' } = given;
  checkSizes('lshAttention', {
    chunk,
    ...(given.rounds !== undefined && { rounds: given.rounds }),
  });
  checkFlags('lshAttention', { causal, sameBucket, returnRoundLse });
  checkNumbers('lshAttention', { scale: given.scale, selfPenalty });
  asTensor('lshAttention', 'qk', qk);
  const global = chunking === 'global';
  const eps = preset === 'trax' ? 1e-6 : 1e-12;
  const { keys, scale } = unitKeys(qk, { scale: given.scale, eps });
  const reach = { chunk, back, forward };
  return sortedAttention(qk, keys, v, {
    ...{ queries: sortedBuckets(qk, given, global), causal, self, duplicates, returnRoundLse },
    pattern: global
      ? { kind: 'global', ...reach, sameGroup: sameBucket }
      : { kind: 'chunk', ...reach },
    scale,
    ...(selfPenalty !== undefined && { selfPenalty }),
    ...(global && lengths && { lengths }),
  });
}

/** Refuses options that others leave without a use. */
function checkCombination(options: LshAttentionOperatorOptions): void {
  const { chunking = 'bucket', rotations, bucketIds } = options;
  if (chunking !== 'bucket' && chunking !== 'global') {
    const remedy = "Use 'bucket' or 'global'";
    throw new ArgumentError('ERR_OPTION', 'lshAttention', 'chunking', show(chunking), remedy);
  }
  const refuse = (names: readonly (keyof typeof options)[], remedy: string): void => {
    const name = names.find((n) => options[n] !== undefined && options[n] !== null);
    if (name) throw new ArgumentError('ERR_OPTION', 'lshAttention', name, 'given', remedy);
  };
  if (chunking === 'bucket') refuse(['sameBucket'], "It is for chunking: 'global'");
  if (rotations !== undefined) refuse(['rounds', 'generator'], 'Leave it out: rotations decide');
  if (bucketIds === undefined) return;
  refuse(['rotations', 'rounds', 'generator'], 'Leave it out: bucketIds decide');
  if (chunking === 'bucket') {
    refuse(['lengths'], 'Leave it out, and give padding the number of buckets for its bucket');
  }
}

/** Buckets, sorted; layers that are computed again keep them. */
function sortedBuckets(
  qk: Tensor,
  options: LshAttentionOperatorOptions,
  global: boolean,
): SortedTokens {
  const { buckets, rounds, rotations, generator, bucketIds, lengths } = options;
  const count = bucketFactors('lshAttention', buckets).reduce((n, factor) => n * factor);
  const [order, offsets] = decideOnce(() => {
    const ids =
      bucketIds ??
      lshBuckets(qk, {
        buckets,
        ...(rotations !== undefined ? { rotations } : { rounds: rounds ?? 4 }),
        ...(generator !== undefined && { generator }),
        // Where chunks are cut globally, padding takes its places in them.
        ...(lengths && !global && { lengths }),
      });
    const sorted = bucketSort(ids, count);
    if (ids !== bucketIds) ids.dispose();
    return [sorted.order, sorted.offsets];
  }) as [Tensor, Tensor];
  return { order, offsets };
}

/**
 * Attention of locality-sensitive hashing (Kitaev et al. 2020): tokens are hashed by random rotations, sorted by
 * bucket, and attend to those near them in that order; several rounds make it likely that similar
 * tokens meet. Keys are the queries, normalised to length 1, so that a token would mostly see itself: it
 * does so only where it sees nothing else. Time and memory grow with N * rounds * chunk.
 *
 * By default it is the paper's attention, with chunks cut inside each bucket: the causal form never sees the
 * future, not even in what is visible. Any N will do.
 *
 * @param qk queries, and keys before they are normalised, [B, H, N, D]
 * @param v [B, H, N, Dv]
 * @returns [B, H, N, Dv]
 * @throws ArgumentError for odd or no buckets, no rounds, options that others leave without a use, and shapes that
 *   do not fit
 * @example
 * const [qk, v] = [normal([1, 2, 1000, 16]), normal([1, 2, 1000, 16])];
 * const y = lshAttention(qk, v, { causal: true, buckets: 32, rounds: 4, chunk: 64 });
 */
export function lshAttention(qk: Tensor, v: Tensor, options: LshAttentionOperatorOptions): Tensor {
  return lshAttentionLse(qk, v, options)[0];
}
