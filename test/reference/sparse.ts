/** Hashing, sorting and clustering in float64, written for reading. */

/** Positions of a line by (group, position), and where the groups begin. Whoever is in no group comes last. */
export function bucketOrder(groups: readonly number[], count: number) {
  const key = (i: number) => {
    const g = groups[i] as number;
    return g >= 0 && g < count ? g : count;
  };
  const order = groups.map((_, i) => i).sort((a, b) => key(a) - key(b) || a - b);
  const offsets = Array.from(
    { length: count + 1 },
    (_, g) => groups.filter((_, i) => key(i) < g).length,
  );
  return { order, offsets };
}

/** argmax over [x R, -x R] for each factor, and by how much the winner wins. */
export function lshBucket(
  x: readonly number[],
  rotation: (d: number, column: number) => number,
  factors: readonly number[],
): { bucket: number; margin: number } {
  let [bucket, scale, first, margin] = [0, 1, 0, Number.POSITIVE_INFINITY];
  for (const factor of factors) {
    const half = Array.from({ length: factor / 2 }, (_, c) =>
      x.reduce((sum, value, d) => sum + value * rotation(d, first + c), 0),
    );
    const products = [...half, ...half.map((p) => -p)];
    const best = products.indexOf(Math.max(...products));
    const next = Math.max(...products.filter((_, i) => i !== best));
    margin = Math.min(margin, (products[best] as number) - next);
    bucket += scale * best;
    scale *= factor;
    first += factor / 2;
  }
  return { bucket, margin };
}

/** Sum of products. */
export const dot = (a: readonly number[], b: readonly number[]) =>
  a.reduce((sum, value, d) => sum + value * (b[d] as number), 0);

/** x / |x|. */
export function direction(x: readonly number[]): number[] {
  const length = Math.max(Math.sqrt(dot(x, x)), 1e-12);
  return x.map((value) => value / length);
}

/** The nearest of the centroids, its score, and by how much it wins. */
export function nearest(x: readonly number[], centroids: readonly (readonly number[])[]) {
  const scores = centroids.map((c) => dot(direction(x), c));
  const score = Math.max(...scores);
  const cluster = scores.indexOf(score);
  const next = Math.max(...scores.filter((_, i) => i !== cluster));
  return { cluster, score, margin: score - next };
}

/** The `window` rows nearest to a centroid, in the order of positions. */
export function members(
  rows: readonly (readonly number[])[],
  centroid: readonly number[],
  window: number,
): number[] {
  const scores = rows.map((x) => dot(direction(x), centroid));
  return rows
    .map((_, i) => i)
    .sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b)
    .slice(0, window)
    .sort((a, b) => a - b);
}

interface Routed {
  q: readonly (readonly number[])[];
  k: readonly (readonly number[])[];
  v: readonly (readonly number[])[];
  queryClusters: readonly number[];
  keyClusters: readonly number[];
  window: number;
  scale: number;
  /** Keys are the queries: a token sees itself only where it sees nothing else. */
  shared?: boolean;
}

/** Softmax over keys; a row of zeros where there are none. */
export function softmaxOver(
  logits: readonly number[],
  values: readonly (readonly number[])[],
  width: number,
): number[] {
  const most = Math.max(...logits);
  const weights = logits.map((x) => Math.exp(x - most));
  const total = weights.reduce((a, b) => a + b, 0);
  return Array.from({ length: width }, (_, d) =>
    values.reduce(
      (sum, value, j) => sum + ((weights[j] as number) / total) * (value[d] as number),
      0,
    ),
  );
}

/** Causal routed attention of one head: the last `window` keys of one's cluster, up to one's position. */
export function routed({ q, k, v, queryClusters, keyClusters, ...how }: Routed): number[][] {
  const keys = how.shared ? k.map(direction) : k;
  return q.map((row, i) => {
    const members = keyClusters.flatMap((c, j) => (j <= i && c === queryClusters[i] ? [j] : []));
    const recent = members.slice(-how.window);
    const others = recent.filter((j) => j !== i);
    const seen = how.shared && others.length > 0 ? others : recent;
    const logits = seen.map((j) => how.scale * dot(row, keys[j] as number[]));
    const width = (v[0] as number[]).length;
    return softmaxOver(
      logits,
      seen.map((j) => v[j] as number[]),
      width,
    );
  });
}
