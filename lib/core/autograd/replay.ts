/** Remembers the state of every random generator a recomputed region draws from. */
import { assign, copy } from '../primitives.js';
import type { Tensor } from '../tensor.js';

let recorder: Map<Tensor, Tensor> | null = null;

/**
 * @internal Random operators call this with the generator's state before they draw, so that a region
 * that will be recomputed can start from the same state.
 */
export function beforeDraw(state: Tensor): void {
  if (recorder && !recorder.has(state)) recorder.set(state, copy(state));
}

/** Generator states as they were before a region drew from them, and how to go back there. */
export class Replay {
  readonly #states = new Map<Tensor, Tensor>();

  /** Runs `fn` and remembers the generators it draws from. */
  record<T>(fn: () => T): T {
    const outer = recorder;
    recorder = this.#states;
    try {
      return fn();
    } finally {
      recorder = outer;
      // An enclosing region draws from them too.
      if (outer)
        for (const [state, before] of this.#states)
          if (!outer.has(state)) outer.set(state, copy(before));
    }
  }

  /** Runs `fn` from the remembered states; afterwards the generators stand where they stood. */
  repeat<T>(fn: () => T): T {
    const now = new Map<Tensor, Tensor>();
    for (const [state, before] of this.#states) {
      now.set(state, copy(state));
      assign(state, before);
    }
    // What the repetition draws is no news to an enclosing region.
    const outer = recorder;
    recorder = null;
    try {
      return fn();
    } finally {
      recorder = outer;
      for (const [state, current] of now) {
        assign(state, current);
        current.dispose();
      }
    }
  }

  /** The copies, for the graph to own. */
  tensors(): Tensor[] {
    return [...this.#states.values()];
  }
}
