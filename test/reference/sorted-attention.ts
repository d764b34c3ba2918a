/** Sorted attention by its definition: every pair of every round, in float64. */

export interface SortedCase {
  /** Batch, query heads, key heads, queries, keys, head dimensions. */
  b: number;
  h: number;
  hk: number;
  n: number;
  m: number;
  d: number;
  dv: number;
  scale: number;
  /** The group of each token, [b][h][round][position]; -1 in none. */
  queryGroups: number[][][][];
  keyGroups: number[][][][];
  groups: number;
  pattern: 'chunk' | 'window' | 'group' | 'global';
  chunk?: number;
  back?: number;
  forward?: number;
  window?: number;
  sameGroup?: boolean;
  causal?: boolean;
  self?: 'ordinary' | 'hidden' | 'lastResort' | 'penalised';
  selfPenalty?: number;
  duplicates?: 'counted' | 'corrected' | 'sameRound';
  /** Of `global`, [b]. */
  lengths?: number[];
}

export interface Pair {
  i: number;
  j: number;
  /** Of the query's entry and of the key's. */
  round: number;
  keyRound: number;
}

interface Entry {
  round: number;
  group: number;
  position: number;
  /** Within its group. */
  rank: number;
  /** In the orders of all rounds laid end to end. */
  place: number;
}

/** The entries of all rounds, in order. Positions in no group come last in their round. */
function entriesOf(groups: readonly number[][], count: number): Entry[] {
  return groups.flatMap((line, round) => {
    const key = (i: number) => ((line[i] as number) < 0 ? count : (line[i] as number));
    const order = line.map((_, i) => i).sort((x, y) => key(x) - key(y) || x - y);
    const ranks = new Map<number, number>();
    return order.map((position, at) => {
      const group = line[position] as number;
      const rank = ranks.get(group) ?? 0;
      ranks.set(group, rank + 1);
      return { round, group, position, rank, place: round * line.length + at };
    });
  });
}

/** Every pair that is seen, once for each way in which it is. */
export function sortedPairs(c: SortedCase, b: number, h: number): Pair[] {
  const queries = entriesOf(c.queryGroups[b]?.[h] as number[][], c.groups);
  const keys = entriesOf(c.keyGroups[b]?.[h] as number[][], c.groups);
  const { chunk = 1, back = 0, forward = 0, window = 1 } = c;
  const chunks = Math.ceil(queries.length / chunk);
  const length = c.lengths?.[b] ?? Number.POSITIVE_INFINITY;
  const near = (own: number, other: number) => other >= own - back && other <= own + forward;
  const sees = (q: Entry, k: Entry): boolean => {
    if (q.group < 0 || k.group < 0 || q.position >= length || k.position >= length) return false;
    if (c.causal && k.position > q.position) return false;
    if (c.self === 'hidden' && q.position === k.position) return false;
    const together = q.round === k.round && q.group === k.group;
    if (c.pattern === 'global') {
      if (c.sameGroup && !together) return false;
      const [own, other] = [Math.floor(q.place / chunk), Math.floor(k.place / chunk)];
      return [-chunks, 0, chunks].some((turn) => near(own, other + turn));
    }
    if (!together) return false;
    if (c.pattern === 'group') return true;
    if (c.pattern === 'chunk') return near(Math.floor(q.rank / chunk), Math.floor(k.rank / chunk));
    const later = keys.filter(
      (x) =>
        x.round === k.round &&
        x.group === k.group &&
        x.position > k.position &&
        x.position <= q.position,
    );
    return k.position <= q.position && later.length < window;
  };
  return queries.flatMap((q) =>
    keys
      .filter((k) => sees(q, k))
      .map((k) => ({ i: q.position, j: k.position, round: q.round, keyRound: k.round })),
  );
}

export interface SortedResult {
  /** [b, h, n, dv] */
  o: Float64Array;
  /** [b, h, n] */
  lse: Float64Array;
  /** [b, h, rounds, n] */
  roundLse: Float64Array;
}

export interface SortedGradients {
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
}

type Data = Record<'q' | 'k' | 'v', Float64Array>;

interface Weighed extends Pair {
  logit: number;
  slope: number;
  /** Where the rows of q, o and lse, of k and of v begin. */
  at: { q: number; o: number; lse: number; k: number; v: number };
}

function weighed(c: SortedCase, data: Data, b: number, h: number): Weighed[] {
  const pairs = sortedPairs(c, b, h);
  const shared = b * c.hk + Math.floor((h * c.hk) / c.h);
  const same = c.duplicates === 'sameRound';
  const counts = new Map<number, number>();
  const rounds = c.queryGroups[b]?.[h]?.length as number;
  for (const { i, j, round, keyRound } of pairs) {
    if (same && round !== keyRound) continue;
    counts.set(i * c.m + j, (counts.get(i * c.m + j) ?? 0) + 1);
  }
  return pairs.map((pair) => {
    const { i, j } = pair;
    const row = (b * c.h + h) * c.n + i;
    const key = shared * c.m + j;
    const at = { q: row * c.d, o: row * c.dv, lse: row, k: key * c.d, v: key * c.dv };
    let product = 0;
    for (let d = 0; d < c.d; d++) {
      product += (data.q[at.q + d] as number) * (data.k[at.k + d] as number);
    }
    let [logit, slope] = [c.scale * product, c.scale];
    if (i === j && c.self === 'lastResort') [logit, slope] = [-(c.selfPenalty ?? 0), 0];
    if (i === j && c.self === 'penalised') logit -= c.selfPenalty ?? 0;
    const count = counts.get(i * c.m + j) ?? 0;
    if (rounds > 1 && c.duplicates === 'corrected') logit -= Math.log(count);
    if (rounds > 1 && same) logit -= Math.log(count + 1e-9);
    return { ...pair, logit, slope, at };
  });
}

function forEachHead(c: SortedCase, visit: (b: number, h: number) => void): void {
  for (let b = 0; b < c.b; b++) for (let h = 0; h < c.h; h++) visit(b, h);
}

function logSumExp(logits: readonly number[]): number {
  const top = Math.max(Number.NEGATIVE_INFINITY, ...logits);
  if (top === Number.NEGATIVE_INFINITY) return top;
  return top + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - top), 0));
}

export function sortedReference(c: SortedCase, data: Data): SortedResult {
  const rounds = c.queryGroups[0]?.[0]?.length as number;
  const result = {
    o: new Float64Array(c.b * c.h * c.n * c.dv),
    lse: new Float64Array(c.b * c.h * c.n),
    roundLse: new Float64Array(c.b * c.h * rounds * c.n),
  };
  forEachHead(c, (b, h) => {
    const pairs = weighed(c, data, b, h);
    const rows = Array.from({ length: c.n }, (): Weighed[] => []);
    for (const pair of pairs) rows[pair.i]?.push(pair);
    rows.forEach((row, i) => {
      const lse = logSumExp(row.map((p) => p.logit));
      result.lse[(b * c.h + h) * c.n + i] = lse;
      for (let r = 0; r < rounds; r++) {
        const one = row.filter((p) => p.round === r).map((p) => p.logit);
        result.roundLse[((b * c.h + h) * rounds + r) * c.n + i] = logSumExp(one);
      }
      for (const { logit, at } of row) {
        for (let d = 0; d < c.dv; d++) {
          (result.o[at.o + d] as number) += Math.exp(logit - lse) * (data.v[at.v + d] as number);
        }
      }
    });
  });
  return result;
}

/** Gradients of sum(gradO o O) + sum(gradLse lse). */
export function sortedGradients(
  c: SortedCase,
  data: Data,
  gradO: Float64Array,
  gradLse?: Float64Array,
): SortedGradients {
  const { o, lse } = sortedReference(c, data);
  const grads = {
    q: new Float64Array(data.q.length),
    k: new Float64Array(data.k.length),
    v: new Float64Array(data.v.length),
  };
  forEachHead(c, (b, h) => {
    for (const { logit, slope, at } of weighed(c, data, b, h)) {
      const weight = Math.exp(logit - (lse[at.lse] as number));
      let difference = gradLse?.[at.lse] ?? 0;
      for (let d = 0; d < c.dv; d++) {
        const upstream = gradO[at.o + d] as number;
        (grads.v[at.v + d] as number) += weight * upstream;
        difference += upstream * ((data.v[at.v + d] as number) - (o[at.o + d] as number));
      }
      for (let d = 0; d < c.d; d++) {
        const g = weight * difference * slope;
        (grads.q[at.q + d] as number) += g * (data.k[at.k + d] as number);
        (grads.k[at.k + d] as number) += g * (data.q[at.q + d] as number);
      }
    }
  });
  return grads;
}
