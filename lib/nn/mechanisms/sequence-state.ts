import { keep } from '../../core/scope.js';
import type { Tensor } from '../../core/tensor.js';
import { concat, indexSelect } from '../../dense/index.js';
import type { MechanismState } from '../mechanism.js';

/**
 * @internal A decoding state of mechanisms whose step computes the whole sequence again: the queries, keys
 * and values so far, [B, H, N, D] each. A step costs what forward costs.
 */
export class SequenceState implements MechanismState {
  #parts: Tensor[] = [];

  get byteLength(): number {
    return this.#parts.reduce((n, t) => n + t.byteLength, 0);
  }

  /** Takes further tokens in; what there is then, with the new ones last. */
  append(...further: readonly Tensor[]): readonly Tensor[] {
    const before = this.#parts;
    this.#parts = further.map((t, i) => {
      const old = before[i];
      return keep(concat(old ? [old, t] : [t], 2));
    });
    for (const t of before) t.dispose();
    return this.#parts;
  }

  reorder(parents: Tensor): void {
    const before = this.#parts;
    this.#parts = before.map((t) => keep(indexSelect(t, 0, parents)));
    for (const t of before) t.dispose();
  }

  reset(): void {
    for (const t of this.#parts) t.dispose();
    this.#parts = [];
  }

  dispose(): void {
    this.reset();
  }
}
