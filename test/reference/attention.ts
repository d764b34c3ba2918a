/** Exact attention by the book: every score of a row, in float64. */

export interface AttentionCase {
  /** Batch, query heads, key heads, queries, keys, head dimensions. */
  b: number;
  hq: number;
  hkv: number;
  n: number;
  m: number;
  d: number;
  dv: number;
  scale?: number;
  causal?: boolean;
  window?: readonly [number, number];
  softcap?: number;
  keyLengths?: ArrayLike<number>;
  queryLengths?: ArrayLike<number>;
  prefixLengths?: ArrayLike<number>;
  /** [b, n] and [b, m] */
  querySegments?: ArrayLike<number>;
  keySegments?: ArrayLike<number>;
  /** Added to scores; axes of 1 are repeated. */
  bias?: { data: Float64Array; shape: readonly [number, number, number, number] };
  /** Whether a block mask shows a pair. */
  shows?: (h: number, i: number, j: number, b: number) => boolean;
  /** [hq] */
  alibiSlopes?: ArrayLike<number>;
  /** [hq] */
  sinks?: ArrayLike<number>;
  /** What dropout multiplies weights with, [b, hq, n, m]. */
  kept?: ArrayLike<number>;
}

export interface AttentionResult {
  /** [b, hq, n, dv] */
  o: Float64Array;
  /** [b, hq, n] */
  lse: Float64Array;
}

export interface AttentionGradients {
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  /** Like the bias; empty without one. */
  bias: Float64Array;
  /** [hq], zeros without sinks. */
  sinks: Float64Array;
}

type Round = (x: number) => number;

interface Row {
  b: number;
  h: number;
  i: number;
  /** Offsets of the row in q, o and lse, and of the first key and value it may see. */
  q: number;
  o: number;
  lse: number;
  k: number;
  v: number;
  /** Scores of the keys, -Infinity where masked. */
  scores: Float64Array;
  /** Scores before the softcap. */
  raw: Float64Array;
  /** The sink's logit, or -Infinity. */
  sink: number;
}

/** Where the bias of a pair lies. */
function biasIndex(c: AttentionCase, at: readonly [b: number, h: number, i: number, j: number]) {
  const shape = c.bias?.shape ?? [1, 1, 1, 1];
  return at.reduce((index, x, axis) => {
    const length = shape[axis] as number;
    return index * length + (length === 1 ? 0 : x);
  }, 0);
}

/** Visits every row of queries with its scores. */
function forEachRow(
  c: AttentionCase,
  q: Float64Array,
  k: Float64Array,
  visit: (row: Row) => void,
): void {
  const scale = c.scale ?? 1 / Math.sqrt(c.d);
  const [left, right] = c.window ?? [-1, -1];
  for (let b = 0; b < c.b; b++) {
    const keys = c.keyLengths?.[b] ?? c.m;
    const queries = c.queryLengths?.[b] ?? c.n;
    for (let h = 0; h < c.hq; h++) {
      const shared = b * c.hkv + Math.floor((h * c.hkv) / c.hq);
      for (let i = 0; i < c.n; i++) {
        const index = (b * c.hq + h) * c.n + i;
        const row: Row = {
          b,
          h,
          i,
          q: index * c.d,
          o: index * c.dv,
          lse: index,
          k: shared * c.m * c.d,
          v: shared * c.m * c.dv,
          scores: new Float64Array(c.m).fill(Number.NEGATIVE_INFINITY),
          raw: new Float64Array(c.m),
          sink: c.sinks?.[h] ?? Number.NEGATIVE_INFINITY,
        };
        const at = i + keys - queries;
        for (let j = 0; j < keys && i < queries; j++) {
          const inPrefix = j < (c.prefixLengths?.[b] ?? 0);
          if (c.causal && j > at && !inPrefix) continue;
          if (left >= 0 && j < at - left) continue;
          if (right >= 0 && j > at + right && !inPrefix) continue;
          if (c.shows && !c.shows(h, i, j, b)) continue;
          if (c.querySegments?.[b * c.n + i] !== c.keySegments?.[b * c.m + j]) continue;
          let product = 0;
          for (let d = 0; d < c.d; d++) {
            product += (q[row.q + d] as number) * (k[row.k + j * c.d + d] as number);
          }
          row.raw[j] = scale * product;
          let score = scale * product;
          if (c.softcap) score = c.softcap * Math.tanh(score / c.softcap);
          if (c.bias) score += c.bias.data[biasIndex(c, [b, h, i, j])] as number;
          if (c.alibiSlopes) score -= (c.alibiSlopes[h] as number) * Math.abs(at - j);
          row.scores[j] = score;
        }
        visit(row);
      }
    }
  }
}

function logSumExp(scores: Float64Array, sink: number): number {
  const top = scores.reduce((a, x) => Math.max(a, x), sink);
  if (top === Number.NEGATIVE_INFINITY) return top;
  let sum = Math.exp(sink - top);
  for (const s of scores) sum += Math.exp(s - top);
  return top + Math.log(sum);
}

function isPadding(c: AttentionCase, { b, i }: Row): boolean {
  return i >= (c.queryLengths?.[b] ?? c.n);
}

function keptOf(c: AttentionCase, { b, h, i }: Row, j: number): number {
  return c.kept?.[((b * c.hq + h) * c.n + i) * c.m + j] ?? 1;
}

/**
 * @param round rounds scores and weights, to imitate the naive formula in low precision
 */
export function attentionReference(
  c: AttentionCase,
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  round: Round = (x) => x,
): AttentionResult {
  const o = new Float64Array(c.b * c.hq * c.n * c.dv);
  const lse = new Float64Array(c.b * c.hq * c.n);
  forEachRow(c, q, k, (row) => {
    const scores = row.scores.map(round);
    const total = isPadding(c, row) ? Number.NEGATIVE_INFINITY : logSumExp(scores, row.sink);
    lse[row.lse] = total;
    if (total === Number.NEGATIVE_INFINITY) return;
    scores.forEach((s, j) => {
      if (s === Number.NEGATIVE_INFINITY) return;
      const weight = round(Math.exp(s - total)) * keptOf(c, row, j);
      for (let d = 0; d < c.dv; d++) {
        o[row.o + d] = (o[row.o + d] as number) + weight * (v[row.v + j * c.dv + d] as number);
      }
    });
  });
  return { o, lse };
}

/** Gradients of sum(gradO * o) + sum(gradLse * lse). */
export function attentionGradients(
  c: AttentionCase,
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  gradO: Float64Array,
  gradLse?: Float64Array,
  round: Round = (x) => x,
): AttentionGradients {
  const scale = c.scale ?? 1 / Math.sqrt(c.d);
  const grad = {
    q: new Float64Array(q.length),
    k: new Float64Array(k.length),
    v: new Float64Array(v.length),
    bias: new Float64Array(c.bias?.data.length ?? 0),
    sinks: new Float64Array(c.hq),
  };
  const add = (to: Float64Array, at: number, x: number) => {
    to[at] = (to[at] as number) + x;
  };
  forEachRow(c, q, k, (row) => {
    if (isPadding(c, row)) return;
    const scores = row.scores.map(round);
    const total = logSumExp(scores, row.sink);
    if (total === Number.NEGATIVE_INFINITY) return;
    const weights = scores.map((s) => round(Math.exp(s - total)));
    const gradWeights = weights.map((weight, j) => {
      if (weight === 0) return 0;
      const kept = keptOf(c, row, j);
      let sum = 0;
      for (let d = 0; d < c.dv; d++) {
        sum += (gradO[row.o + d] as number) * (v[row.v + j * c.dv + d] as number);
        add(grad.v, row.v + j * c.dv + d, kept * weight * (gradO[row.o + d] as number));
      }
      return round(kept * sum);
    });
    const mean = weights.reduce((sum, weight, j) => sum + weight * (gradWeights[j] as number), 0);
    const toLse = gradLse?.[row.lse] ?? 0;
    add(grad.sinks, row.h, Math.exp(row.sink - total) * (toLse - mean));
    weights.forEach((weight, j) => {
      if (weight === 0) return;
      let slope = scale;
      if (c.softcap) slope *= 1 - Math.tanh((row.raw[j] as number) / c.softcap) ** 2;
      const gradScore = round(weight * ((gradWeights[j] as number) - mean + toLse));
      if (c.bias) add(grad.bias, biasIndex(c, [row.b, row.h, row.i, j]), gradScore);
      for (let d = 0; d < c.d; d++) {
        add(grad.q, row.q + d, slope * gradScore * (k[row.k + j * c.d + d] as number));
        add(grad.k, row.k + j * c.d + d, slope * gradScore * (q[row.q + d] as number));
      }
    });
  });
  return grad;
}
