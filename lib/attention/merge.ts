/** Attention over parts of the keys, put together. */
import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions, checkTensors } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { permute, unsqueeze } from '../core/views.js';
import { add, div, equal, exp, log, maximum, mul, sub, where } from '../dense/index.js';

/**
 * Attention of the same queries over disjoint sets of keys, merged into what attention over all of them
 * gives: each part weighs as much as the sum of its exponentials. A prefix that many sequences share is
 * attended to once and merged with each one's own keys; parts may come from other devices or processes.
 *
 * Made of differentiable operators, in f32 (f64 for f64). A part without keys (log-sum-exp -Infinity)
 * weighs nothing.
 *
 * @param parts `[output, logSumExp]` as `attention(..., { returnLse: true })` returns them, at least one
 * @param options.layout of the outputs, `[B, H, N, Dv]` ('bhnd', default) or `[B, N, H, Dv]`
 * @returns output and log-sum-exp
 * @throws ArgumentError for no parts, an unknown layout, or shapes that do not fit
 * @example
 * const [q, k, v] = [1, 2, 3].map((seed) => normal([1, 2, 64, 16], { generator: new Generator(seed) }));
 * const parts = [0, 32].map((from) => {
 *   const part = (t: Tensor) => slice(t, 2, from, from + 32);
 *   return attention(q, part(k), part(v), { returnLse: true });
 * });
 * const [y, lse] = mergeAttention(parts); // attention(q, k, v, { returnLse: true })
 */
export function mergeAttention(
  parts: readonly Part[],
  options: { layout?: 'bhnd' | 'bnhd' } = {},
): [output: Tensor, logSumExp: Tensor] {
  checkOptions('mergeAttention', options, ['layout']);
  const { layout = 'bhnd' } = options;
  if (layout !== 'bhnd' && layout !== 'bnhd') {
    throw new ArgumentError(
      'ERR_OPTION',
      'mergeAttention',
      'layout',
      show(layout),
      "Use 'bhnd' or 'bnhd'",
    );
  }
  if (!Array.isArray(parts) || parts.length === 0) {
    const remedy = 'Give a list of at least one part';
    throw new ArgumentError('ERR_VALUE', 'mergeAttention', 'parts', show(parts), remedy);
  }
  for (const [i, part] of parts.entries()) {
    checkTensors('mergeAttention', `parts[${i}]`, part);
    if (part.length === 2) continue;
    const remedy = 'Give an output and its log-sum-exp';
    throw new ArgumentError('ERR_VALUE', 'mergeAttention', `parts[${i}]`, show(part), remedy);
  }
  const [first, ...rest] = parts as [Part, ...Part[]];
  for (const [i, [o, lse]] of parts.entries()) checkPart(i, o, lse, first[0], layout);
  const [output, statistic] = first;
  // The largest is only a common offset: what flows through it cancels.
  const top = rest.reduce((a, [, lse]) => maximum(a, lse.detach()), statistic.detach());
  const none = equal(top, Number.NEGATIVE_INFINITY);
  const base = where(none, 0, top);
  const weights = parts.map(([, lse]) => exp(sub(lse, base)));
  const total = weights.reduce((a, w) => add(a, w));
  const empty = equal(total, 0);
  const divisor = where(empty, 1, total);
  const merged = parts
    .map(([o], i) => mul(o.to(statistic.dtype), spread(div(weights[i] as Tensor, divisor), layout)))
    .reduce((a, x) => add(a, x));
  const lse = where(empty, Number.NEGATIVE_INFINITY, add(log(divisor), base));
  return [merged.to(output.dtype), lse];
}

type Part = readonly [output: Tensor, logSumExp: Tensor];

/** [B, H, N] beside the head dimension of an output. */
function spread(weight: Tensor, layout: 'bhnd' | 'bnhd'): Tensor {
  return unsqueeze(layout === 'bnhd' ? permute(weight, [0, 2, 1]) : weight, -1);
}

function checkPart(
  i: number,
  o: Tensor,
  lse: Tensor,
  first: Tensor,
  layout: 'bhnd' | 'bnhd',
): void {
  const [b, second, third] = o.shape;
  const expected = layout === 'bnhd' ? [b, third, second] : [b, second, third];
  if (o.shape.length === 4 && `${o.shape}` === `${first.shape}` && `${lse.shape}` === `${expected}`)
    return;
  throw new ArgumentError(
    'ERR_SHAPE',
    'mergeAttention',
    `parts[${i}]`,
    `${show(o)} and ${show(lse)}`,
    `Outputs must be as the first, ${show(first)}, with a log-sum-exp of their batch, heads and queries`,
  );
}
