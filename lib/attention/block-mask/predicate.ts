/** Predicates of masks, built in TypeScript and evaluated on the device. */
import { tensor } from '../../core/create.js';
import { show } from '../../core/declare.js';
import type { Device } from '../../core/device.js';
import { ArgumentError } from '../../core/errors.js';
import type { Tensor } from '../../core/tensor.js';

/** The steps of the native stack machine, in the order of `MaskStep` in `cpp/ops/attention/block_mask.h`. */
const steps = [
  'constant',
  'query',
  'key',
  'batch',
  'head',
  'add',
  'subtract',
  'multiply',
  'divide',
  'remainder',
  'minimum',
  'maximum',
  'absolute',
  'less',
  'lessEqual',
  'equal',
  'both',
  'either',
  'negate',
] as const;

type Step = (typeof steps)[number];

const mostDepth = 16;

/**
 * A 32-bit integer that depends on the pair: a position, or what is computed from it. Comparisons and
 * logic give 1 or 0. Division and remainder round down; by 0 they give 0.
 */
export class MaskValue {
  /** @internal */
  constructor(
    readonly program: readonly number[],
    readonly depth: number,
  ) {
    if (depth > mostDepth) {
      throw new ArgumentError(
        'ERR_VALUE',
        'BlockMask.where',
        'predicate',
        `operands nested ${depth} deep`,
        `Nest at most ${mostDepth}: put the deeper operand first`,
      );
    }
  }

  plus(x: MaskValue | number): MaskValue {
    return this.#with('add', x);
  }
  minus(x: MaskValue | number): MaskValue {
    return this.#with('subtract', x);
  }
  times(x: MaskValue | number): MaskValue {
    return this.#with('multiply', x);
  }
  /** The quotient, rounded down. */
  over(x: MaskValue | number): MaskValue {
    return this.#with('divide', x);
  }
  /** What is left of `over`, never negative for a positive divisor. */
  mod(x: MaskValue | number): MaskValue {
    return this.#with('remainder', x);
  }
  min(x: MaskValue | number): MaskValue {
    return this.#with('minimum', x);
  }
  max(x: MaskValue | number): MaskValue {
    return this.#with('maximum', x);
  }
  abs(): MaskValue {
    return new MaskValue([...this.program, steps.indexOf('absolute'), 0], this.depth);
  }
  below(x: MaskValue | number): MaskValue {
    return this.#with('less', x);
  }
  atMost(x: MaskValue | number): MaskValue {
    return this.#with('lessEqual', x);
  }
  above(x: MaskValue | number): MaskValue {
    return this.atMost(x).not();
  }
  atLeast(x: MaskValue | number): MaskValue {
    return this.below(x).not();
  }
  equals(x: MaskValue | number): MaskValue {
    return this.#with('equal', x);
  }
  and(x: MaskValue): MaskValue {
    return this.#with('both', x);
  }
  or(x: MaskValue): MaskValue {
    return this.#with('either', x);
  }
  not(): MaskValue {
    return new MaskValue([...this.program, steps.indexOf('negate'), 0], this.depth);
  }

  #with(step: Step, x: MaskValue | number): MaskValue {
    const other = x instanceof MaskValue ? x : constant(x);
    return new MaskValue(
      [...this.program, ...other.program, steps.indexOf(step), 0],
      Math.max(this.depth, 1 + other.depth),
    );
  }
}

function constant(x: number): MaskValue {
  if (!Number.isInteger(x) || x !== (x | 0)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'BlockMask.where',
      'predicate',
      show(x),
      'Use whole numbers of 32 bits in predicates',
    );
  }
  return new MaskValue([steps.indexOf('constant'), x], 1);
}

const place = (step: Step): MaskValue => new MaskValue([steps.indexOf(step), 0], 1);

/** What a predicate is given: the places of a pair. */
export interface MaskPlaces {
  /** Query, from 0. */
  readonly i: MaskValue;
  /** Key, from 0. */
  readonly j: MaskValue;
  /** The key that a query stands at when both sequences end together: i + keys - queries. */
  readonly at: MaskValue;
  readonly batch: MaskValue;
  readonly head: MaskValue;
}

/** Which pairs a query sees. */
export type MaskPredicate = (places: MaskPlaces) => MaskValue;

/** @internal The program of a predicate, i32[L, 2]. */
export function compile(
  predicate: MaskPredicate,
  queries: number,
  keys: number,
  device: Device,
): Tensor {
  const i = place('query');
  const at = keys === queries ? i : i.plus(keys - queries);
  const value = predicate({ i, j: place('key'), at, batch: place('batch'), head: place('head') });
  if (!(value instanceof MaskValue)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'BlockMask.where',
      'predicate',
      show(value),
      'Return what the methods of i, j, at, batch and head give, as in ({ i, j }) => j.atMost(i)',
    );
  }
  return tensor(Int32Array.from(value.program), { shape: [value.program.length / 2, 2], device });
}
