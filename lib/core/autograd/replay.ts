/** Remembers what a recomputed region must find as it was: states of random generators, and decisions. */
import { checkFunction } from '../options.js';
import { assign, copy } from '../primitives.js';
import { keep } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { withRecording } from './graph.js';

type Decide = (make: () => readonly Tensor[]) => readonly Tensor[];

/** A decision, and where it left the generators it drew from. */
interface Decision {
  readonly tensors: readonly Tensor[];
  readonly after: ReadonlyMap<Tensor, Tensor>;
}

/** Where states before a region's first draws are kept, and the same of the regions around it. */
interface Recorder {
  readonly states: Map<Tensor, Tensor>;
  readonly outer: Recorder | null;
}

let recorder: Recorder | null = null;
/** How the region under way decides; null outside of regions. */
let decider: Decide | null = null;

/**
 * @internal Random operators call this with the generator's state before they draw, so that a region
 * that will be recomputed can start from the same state.
 */
export function beforeDraw(state: Tensor): void {
  for (let at = recorder; at; at = at.outer)
    if (!at.states.has(state)) at.states.set(state, keep(copy(state)));
}

/**
 * Computes what a region that may be recomputed (`checkpoint`, `reversible`) must not compute twice:
 * choices that inputs restored with rounding could turn another way (buckets, clusters), and updates of
 * buffers. The recomputation gets the tensors that the first run made, and leaves random generators
 * where the first run left them. Nothing in it is recorded. Outside of regions it just runs.
 *
 * @param make a synchronous function without gradients
 * @example
 * const layer = new Linear(4, 4);
 * const choose = (x: Tensor) => {
 *   const [mask] = decideOnce(() => [greaterEqual(x, 0)]);
 *   return where(mask as Tensor, layer.forward(x), 0);
 * };
 * const x = normal([2, 4]).requireGrad();
 * backward(sum(checkpoint(choose, [x])));
 */
export function decideOnce(make: () => readonly Tensor[]): readonly Tensor[] {
  checkFunction('decideOnce', make);
  return decider ? decider(make) : withRecording(false, make);
}

function within<T>(recording: Recorder | null, decide: Decide | null, fn: () => T): T {
  const outer = [recorder, decider] as const;
  [recorder, decider] = [recording, decide];
  try {
    return fn();
  } finally {
    [recorder, decider] = outer;
  }
}

/** What a region started from and decided, and how to go back there. */
export class Replay {
  readonly #states = new Map<Tensor, Tensor>();
  readonly #decisions: Decision[] = [];

  /** Runs `fn` and remembers the generators it draws from and what it decides. */
  record<T>(fn: () => T): T {
    const around = decider;
    const decide: Decide = (make) => {
      const drawn = new Map<Tensor, Tensor>();
      const tensors = within({ states: drawn, outer: recorder }, around, () => decideOnce(make));
      const after = new Map<Tensor, Tensor>();
      for (const [state, before] of drawn) {
        before.dispose();
        after.set(state, keep(copy(state)));
      }
      this.#decisions.push({ tensors: tensors.map((t) => keep(t.detach())), after });
      return tensors;
    };
    return within({ states: this.#states, outer: recorder }, decide, fn);
  }

  /** Runs `fn` from the remembered states; afterwards the generators stand where they stood. */
  repeat<T>(fn: () => T): T {
    const now = new Map<Tensor, Tensor>();
    for (const [state, before] of this.#states) {
      now.set(state, copy(state));
      assign(state, before);
    }
    let next = 0;
    const decide: Decide = () => {
      const { tensors, after } = this.#decisions[next++] as Decision;
      for (const [state, value] of after) {
        beforeDraw(state);
        assign(state, value);
      }
      return tensors.map((t) => t.detach());
    };
    try {
      // What the repetition draws is no news to an enclosing region.
      return within(null, decide, fn);
    } finally {
      for (const [state, current] of now) {
        assign(state, current);
        current.dispose();
      }
    }
  }

  /** What it holds, for the graph to own. */
  tensors(): Tensor[] {
    const decided = this.#decisions.flatMap(({ tensors, after }) => [
      ...tensors,
      ...after.values(),
    ]);
    return [...this.#states.values(), ...decided];
  }
}
