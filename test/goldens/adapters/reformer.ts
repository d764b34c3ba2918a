import {
  bucketSort,
  type LshAttentionOperatorOptions,
  lshAttentionLse,
  lshBuckets,
  permute,
  reshape,
  type Tensor,
} from 'longspan';
import { values } from '../../support/compare.js';
import {
  type Adapter,
  type CaseInputs,
  type Computed,
  gradientsOf,
  type NotOffered,
  notOffered,
  type Partly,
} from '../adapter.js';
import { lengthsOf } from '../modules.js';

interface LshParams {
  S: number;
  n_buckets: number;
  n_hashes: number;
  causal: boolean;
  bucket_size?: number;
  chunk_len?: number;
  n_chunks_after?: number;
  attend_across_buckets?: boolean;
  allow_duplicate_attention?: boolean;
  rotations_per_head?: boolean;
}

/** Rows of a case as [B, H, N, D]: heads where each has rotations of its own. */
function heads(x: Tensor, perHead: boolean): Tensor {
  const [rows, n, d] = x.shape as [number, number, number];
  return reshape(x, perHead ? [1, rows, n, d] : [rows, 1, n, d]);
}

/** The buckets, sorted order and its inverse as the case numbers them. */
function hashed(qk: Tensor, rotations: Tensor, { S, n_buckets: count, n_hashes }: LshParams) {
  const buckets = lshBuckets(qk.detach(), { buckets: count, rotations });
  const { order, inverse } = bucketSort(buckets, count, { inverse: true });
  const round = (i: number) => Math.floor(i / S) % n_hashes;
  const shifted = (t: Tensor, by: number) => values(t).map((x, i) => x + round(i) * by);
  return {
    buckets: shifted(buckets, count),
    sticker: shifted(order, S),
    undo_sort: shifted(inverse as Tensor, S),
  };
}

/** [B, R, N] for tokens that are no padding. */
function ofTokens(rounds: Tensor, lengths: Tensor): Partly {
  const [, count, n] = rounds.shape as [number, number, number];
  const ends = values(lengths);
  return {
    values: rounds,
    offers: (i) => i % n < (ends[Math.floor(i / (n * count))] as number),
    otherwise: 'padding sees nothing, not even itself',
  };
}

function run(
  inputs: CaseInputs,
  rotations: Tensor,
  options: Partial<LshAttentionOperatorOptions>,
): Computed | NotOffered {
  const params = inputs.params<LshParams>();
  if (inputs.dtype === 'bf16' || inputs.dtype === 'f16')
    return notOffered('vectors rounded to 16 bits fall into other buckets than the case compares');
  const { n_buckets: buckets, causal, rotations_per_head: perHead = false } = params;
  const [qk, v] = [inputs.leaf('qk'), inputs.leaf('v')];
  const [q, x] = [heads(qk, perHead), heads(v, perHead)];
  // The codes' penalty costs f32 digits wherever a token sees itself alone in a round; a small one hides as well.
  const selfPenalty = inputs.dtype === 'f64' ? 5e4 : 100;
  const [y, , roundLse] = lshAttentionLse(q, x, {
    ...{ buckets, rotations, causal, selfPenalty, returnRoundLse: true },
    ...options,
  });
  const out = reshape(y, v.shape);
  const { S: n, n_hashes } = params;
  // A token that sees itself alone has the penalty for its log-sum-exp.
  const lse = values(roundLse as Tensor).map((x) => (x < -50 ? x + selfPenalty - 5e4 : x));
  const alone = inputs.make(lse, [v.dim(0), n_hashes, n], inputs.dtype === 'f64' ? 'f64' : 'f32');
  return {
    ...{ out, ...hashed(q, rotations, params) },
    lse_per_hash: options.lengths ? ofTokens(alone, options.lengths) : alone,
    ...gradientsOf([[out, inputs.tensor('d_out')]], { 'grad.qk': qk, 'grad.v': v }),
  };
}

export const lucidrainsLsh: Adapter = {
  mechanism: 'reformer_lsh',
  single: true,
  run(inputs) {
    const params = inputs.params<LshParams>();
    const rotations = permute(inputs.tensor('rotations'), [0, 2, 1, 3]);
    const across = params.attend_across_buckets ?? true;
    const counted = params.allow_duplicate_attention ?? true;
    return run(inputs, f32(inputs, rotations), {
      preset: 'lucidrains',
      chunk: params.bucket_size as number,
      sameBucket: !across,
      duplicates: counted ? 'counted' : 'sameRound',
      ...(inputs.has('input_mask') && { lengths: lengthsOf(inputs, 'input_mask', 0) }),
    });
  },
};

export const traxLsh: Adapter = {
  mechanism: 'reformer_lsh_trax',
  single: true,
  run(inputs) {
    const { chunk_len: chunk, n_chunks_after: forward } = inputs.params<LshParams>();
    const rotations = permute(inputs.tensor('rotations'), [1, 0, 2]);
    return run(inputs, f32(inputs, reshape(rotations, [1, ...rotations.shape])), {
      preset: 'trax',
      chunk: chunk as number,
      forward: forward as number,
    });
  },
};

export const sharedFull: Adapter = {
  mechanism: 'reformer_shared_qk_full',
  single: true,
  run(inputs) {
    const { S: n, causal } = inputs.params<LshParams>();
    const [qk, v] = [inputs.leaf('qk'), inputs.leaf('v')];
    const [q, x] = [heads(qk, false), heads(v, false)];
    const rows = q.shape[0] as number;
    const bucketIds = inputs.make(new Int32Array(rows * n), [rows, 1, 1, n], 'i32');
    const options = { buckets: 2, bucketIds, chunk: n, causal, selfPenalty: 5e4 };
    const out = reshape(lshAttentionLse(q, x, options)[0], v.shape);
    const leaves = { 'grad.qk': qk, 'grad.v': v };
    return { out, ...gradientsOf([[out, inputs.tensor('d_out')]], leaves) };
  },
};

/** Rotations are f32 whatever the vectors are. */
function f32(inputs: CaseInputs, rotations: Tensor): Tensor {
  const dense = values(rotations);
  return inputs.make(dense, rotations.shape, 'f32');
}
