/** Named sparsity patterns. */

import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import { Random } from '../../core/random.js';
import { type Blocks, build, columnsOf, hidden, type MaskShape, rowsOf, whole } from './blocks.js';
import type { MaskPlaces, MaskValue } from './predicate.js';

/** A pattern: pair by pair, or block by block. */
export type Pattern =
  | { readonly predicate: (places: MaskPlaces) => MaskValue }
  | { readonly blocks: (shape: MaskShape) => Blocks };

function count(name: string, option: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new ArgumentError(
    'ERR_VALUE',
    `BlockMask.${name}`,
    option,
    show(value),
    `Use a whole number from ${least} on`,
  );
}

/** Keys within `left` before and `right` after the query's position. */
export function local(left: number, right: number): Pattern {
  count('local', 'left', left, 0);
  count('local', 'right', right, 0);
  return { predicate: ({ at, j }) => j.atLeast(at.minus(left)).and(j.atMost(at.plus(right))) };
}

/** Child et al. 2019, section 4.2: the last `stride` keys, and every `stride`-th before them. */
export function strided(stride: number): Pattern {
  count('strided', 'stride', stride, 1);
  return {
    predicate: ({ at, j }) => {
      const distance = at.minus(j);
      return distance.abs().below(stride).or(distance.mod(stride).equals(0));
    },
  };
}

/** Child et al. 2019, section 4.2: keys of the query's own stretch, and the last `summary` of each. */
export function fixed(stride: number, summary: number): Pattern {
  count('fixed', 'stride', stride, 1);
  count('fixed', 'summary', summary, 1);
  return {
    predicate: ({ at, j }) =>
      j
        .over(stride)
        .equals(at.over(stride))
        .or(j.mod(stride).atLeast(stride - summary)),
  };
}

/** Beltagy et al. 2020: a window to both sides, and tokens that see all and are seen by all. */
export function longformer(window: number, globals: readonly number[]): Pattern {
  count('longformer', 'window', window, 0);
  for (const g of globals) count('longformer', 'globals', g, 0);
  // Neighbouring global tokens are one comparison.
  const runs: [number, number][] = [];
  for (const g of [...new Set(globals)].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last && last[1] === g) last[1]++;
    else runs.push([g, g + 1]);
  }
  const within = (x: MaskValue, [from, to]: [number, number]) => x.atLeast(from).and(x.below(to));
  return {
    predicate: ({ at, i, j }) =>
      runs.reduce(
        (seen, run) => seen.or(within(j, run)).or(within(i, run)),
        at
          .minus(j)
          .abs()
          .atMost(Math.floor(window / 2)),
      ),
  };
}

/**
 * Zaheer et al. 2020, block by block: `window` neighbours (odd, centred), `globals` first rows and
 * columns, and `more` random blocks per row, drawn from a seed.
 */
export function bigBird(window: number, globals: number, more: number, seed: number): Pattern {
  count('bigBird', 'window', window, 0);
  count('bigBird', 'globals', globals, 0);
  count('bigBird', 'random', more, 0);
  const half = Math.floor(window / 2);
  return {
    blocks: (shape) => {
      const random = new Random(seed);
      const columns = columnsOf(shape);
      const chosen = Array.from({ length: rowsOf(shape) * shape.heads * shape.batch }, () => {
        const picks = new Set<number>();
        while (picks.size < Math.min(more, columns)) picks.add(random.below(columns));
        return picks;
      });
      return build(shape, ({ row, column, index }) =>
        Math.abs(row - column) <= half ||
        row < globals ||
        column < globals ||
        chosen[Math.floor(index / columns)]?.has(column)
          ? whole
          : hidden,
      );
    },
  };
}

/** Flat butterfly (Dao et al. 2022, "Pixelated butterfly"): blocks whose places differ in one bit at most. */
export function butterfly(): Pattern {
  return {
    blocks: (shape) =>
      build(shape, ({ row, column }) => {
        const differing = row ^ column;
        return (differing & (differing - 1)) === 0 ? whole : hidden;
      }),
  };
}
