import {
  add,
  clusterMembers,
  clusterSums,
  commitmentLoss,
  concat,
  kmeansAssign,
  kmeansUpdate,
  mul,
  reshape,
  routingAttention,
  type Tensor,
  tensor,
  zeros,
} from 'longspan';
import { values } from '../../support/compare.js';
import {
  type Adapter,
  type CaseInputs,
  type Computed,
  gradientsOf,
  type NotOffered,
  notOffered,
} from '../adapter.js';

interface Params {
  num_clusters: number;
  window_size: number;
  kv_window_size: number;
  causal: boolean;
  shared_qk: boolean;
  ema_decay: number;
  commitment: number;
}

/** Centroids as the code moves them: by mean directions; returns what they become. */
function moved(means: Tensor, tokens: Tensor[], groups: Tensor[], decay: number): Tensor {
  const [heads, k] = means.shape as [number, number];
  const { dtype, device } = means;
  const state = {
    centroids: mul(means, 1),
    sums: zeros(means.shape, { dtype, device }),
    counts: zeros([heads, k], { dtype, device }),
    generator: tensor([1, 0, 0, 0], { dtype: 'i32', device }),
  };
  const batches = tokens.map((x, i) => clusterSums(x, groups[i] as Tensor, k));
  const batch = batches.reduce((a, b) => ({
    sums: add(a.sums, b.sums),
    counts: add(a.counts, b.counts),
  }));
  kmeansUpdate(state, tokens[0] as Tensor, batch, { decay, rule: 'means', minimum: 0 });
  return state.centroids;
}

/** Statistics are f32 where tokens are of 16 bits. */
const statistics = (inputs: CaseInputs, name: string): Tensor => {
  const { data, shape } = inputs.host(name);
  return inputs.make(data, shape, inputs.dtype === 'f64' ? 'f64' : 'f32');
};

/** Scores of all tokens for all centroids, from one centroid at a time. */
function scoresOf(x: Tensor, means: Tensor): Tensor {
  const k = means.shape[1] as number;
  const columns = Array.from({ length: k }, (_, c) => {
    const { scores } = kmeansAssign(x, means.slice(1, c, c + 1));
    return reshape(scores, [...scores.shape, 1]);
  });
  return concat(columns, 3);
}

/** Members by descending score, as the code lists them. */
function listed(members: Tensor, scores: Tensor): Float64Array {
  const [ids, dists] = [values(members), values(scores)];
  const [, heads, k, w] = members.shape as [number, number, number, number];
  const n = scores.shape[2] as number;
  const result = new Float64Array(ids.length);
  for (let line = 0; line < ids.length / w; line++) {
    const at = (i: number) => dists[(Math.floor(line / k) * n + i) * k + (line % k)] as number;
    result.set(
      ids.slice(line * w, (line + 1) * w).sort((a, b) => at(b) - at(a)),
      line * w,
    );
  }
  return heads > 0 ? result : ids;
}

/** In 16 bits vectors are rounded before they are routed, and some go to other clusters. */
const rounded = notOffered('clusters in 16 bits, which rounding changes');
const isNarrow = ({ dtype }: CaseInputs) => dtype === 'bf16' || dtype === 'f16';

function routing(inputs: CaseInputs): Computed | NotOffered {
  if (isNarrow(inputs)) return rounded;
  const p = inputs.params<Params>();
  const [q, v] = [inputs.leaf('q'), inputs.leaf('v')];
  const k = p.shared_qk ? null : inputs.leaf('k');
  const means = statistics(inputs, 'means');
  const memory = inputs.has('mem_key')
    ? { keys: inputs.leaf('mem_key'), values: inputs.leaf('mem_value') }
    : null;
  const queryMask = inputs.has('query_mask') ? inputs.tensor('query_mask') : null;
  const keyMask = inputs.has('key_mask')
    ? inputs.tensor('key_mask')
    : v.shape[2] === q.shape[2]
      ? queryMask
      : null;
  const out = routingAttention(q, k, v, means, {
    ...{ balanced: true, causal: p.causal, epsilon: 1e-5, selfPenalty: 5e4 },
    ...{ window: p.window_size, keyWindow: p.kv_window_size },
    ...(memory && { memory }),
    masks: { ...(queryMask && { queries: queryMask }), ...(keyMask && { keys: keyMask }) },
  });
  const tokens = k ? [q, k] : [q];
  const groups = tokens.map((x) => kmeansAssign(x, means).assignments);
  const scores = tokens.map((x) => scoresOf(x, means));
  const count = tokens.reduce((sum, x) => sum + (x.shape[2] as number), 0);
  const loss = tokens
    .map((x, i) =>
      mul(commitmentLoss(x, means, groups[i] as Tensor), (x.shape[2] as number) / count),
    )
    .reduce((a, b) => add(a, b));
  const aux = reshape(mul(loss, p.commitment), [1]);
  const windows = [p.window_size, p.kv_window_size];
  const [idxQ, idxK] = tokens.map((x, i) =>
    listed(clusterMembers(x, means, windows[i] as number), scores[i] as Tensor),
  );
  return {
    out,
    aux_loss: aux,
    dists: concat(scores, 2),
    assign: concat(groups, 2),
    idx_q: idxQ as Float64Array,
    ...(idxK && { idx_k: idxK }),
    means_new: moved(means, tokens, groups, 0),
    means_ema: moved(means, tokens, groups, p.ema_decay),
    ...gradientsOf(
      [
        [out, inputs.tensor('d_out')],
        [aux, statistics(inputs, 'd_aux_loss')],
      ],
      {
        ...{ 'grad.q': q, 'grad.v': v },
        ...(k && { 'grad.k': k }),
        ...(memory && { 'grad.mem_key': memory.keys, 'grad.mem_value': memory.values }),
      },
    ),
  };
}

export const routingAttentions: Adapter = {
  mechanism: 'routing_attention',
  single: true,
  run: routing,
};

function iterations(inputs: CaseInputs): Computed | NotOffered {
  if (isNarrow(inputs)) return rounded;
  const computed: Record<string, Tensor> = {};
  const x = inputs.tensor('x');
  let means = statistics(inputs, 'means0');
  for (let i = 1; i <= inputs.params<{ iterations: number }>().iterations; i++) {
    const { assignments } = kmeansAssign(x, means);
    means = moved(means, [x], [assignments], 0);
    Object.assign(computed, { [`assign_iter${i}`]: assignments, [`means_iter${i}`]: means });
  }
  return computed;
}

export const routingKmeans: Adapter = {
  mechanism: 'routing_kmeans',
  single: true,
  run: iterations,
};
