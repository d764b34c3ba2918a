import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import { checkOptions } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import { permute } from '../../core/views.js';
import { add, concat } from '../../dense/index.js';
import { unpack } from '../functional/unpack.js';
import { checkSizes } from '../layers/options.js';
import {
  type Causality,
  checkShape,
  type FlopShape,
  Mechanism,
  type MechanismConfig,
  type MechanismContext,
  type MechanismState,
  type RotaryTurns,
  type StateShape,
} from '../mechanism.js';
import { type MechanismOptions, mechanismFrom, registerMechanism } from './registry.js';

/** Some heads of a layer and what they compute. */
export interface HeadGroup {
  heads: number;
  mechanism: Mechanism | MechanismConfig;
}

/** Options of {@link MixedAttention}. */
export interface MixedAttentionOptions extends MechanismOptions {
  /** The first heads, the next ones, and so on; together as many as the layer has. */
  groups: readonly HeadGroup[];
}

/**
 * Several mechanisms side by side, each on heads of its own, as in Roy et al. 2021: local ones beside
 * routed ones. It declares what all of them can do. Parameters and buffers are named by group:
 * `mechanisms.1.centroids`.
 *
 * @example
 * const near = { name: 'softmax', causal: true, window: 64 };
 * const far = { name: 'softmax', causal: true };
 * const mechanism = new MixedAttention({
 *   groups: [
 *     { heads: 6, mechanism: near },
 *     { heads: 2, mechanism: far },
 *   ],
 * });
 */
export class MixedAttention extends Mechanism {
  readonly name = 'mixed';
  readonly causality: Causality;
  override readonly random: boolean;
  override readonly decodes: boolean;
  override readonly capturable: boolean;
  override readonly cross: boolean;
  override readonly segments: boolean;
  override readonly rotates: boolean;
  override readonly paged: boolean;
  override readonly sharedKeys: boolean;
  readonly mechanisms: readonly Mechanism[];
  readonly heads: readonly number[];

  constructor(options: MixedAttentionOptions) {
    super();
    checkOptions('MixedAttention', options, ['groups', 'generator']);
    const { groups, generator } = options;
    if (!Array.isArray(groups) || groups.length === 0) {
      const remedy = 'Give a list of { heads, mechanism }';
      throw new ArgumentError('ERR_OPTION', 'MixedAttention', 'groups', show(groups), remedy);
    }
    for (const group of groups) {
      checkOptions('MixedAttention', group, ['heads', 'mechanism']);
      checkSizes('MixedAttention', { heads: group.heads });
    }
    const parts = (groups as readonly HeadGroup[]).map(({ mechanism }) =>
      mechanism instanceof Mechanism
        ? mechanism
        : mechanismFrom(mechanism, generator && { generator }),
    );
    this.mechanisms = parts;
    this.heads = groups.map(({ heads }) => heads);
    const kinds = parts.map(({ causality }) => causality);
    const open = kinds.includes('full') ? 'full' : 'leaking';
    this.causality = kinds.every((kind) => kind === 'causal') ? 'causal' : open;
    this.random = parts.some((part) => part.random);
    this.decodes = parts.every((part) => part.decodes);
    this.capturable = parts.every((part) => part.capturable);
    this.cross = parts.every((part) => part.cross);
    this.segments = parts.every((part) => part.segments);
    this.rotates = parts.every((part) => part.rotates);
    this.paged = parts.every((part) => part.paged);
    this.sharedKeys = parts.some((part) => part.sharedKeys);
    if (parts.some((part) => part.sharedKeys !== this.sharedKeys)) {
      const names = parts.map((part) => `${part.name}${part.sharedKeys ? ' (shared)' : ''}`);
      const remedy =
        'Mechanisms whose keys are their queries stand beside none that have keys of their own';
      throw new ArgumentError('ERR_OPTION', 'MixedAttention', 'groups', names.join(', '), remedy);
    }
  }

  forward(q: Tensor, k: Tensor, v: Tensor, context: MechanismContext = {}): Tensor {
    const [queries, keys, values] = this.#divide(q, k, v);
    return joined(
      this.mechanisms.map((part, i) =>
        part.forward(queries[i] as Tensor, keys[i] as Tensor, values[i] as Tensor, context),
      ),
    );
  }

  override auxiliaryLoss(): Tensor | null {
    const losses = this.mechanisms.map((part) => part.auxiliaryLoss()).filter((t) => t !== null);
    return losses.length > 0 ? losses.reduce((total, loss) => add(total, loss)) : null;
  }

  override initState(shape: StateShape): MechanismState {
    if (!this.decodes) return super.initState(shape);
    checkShape('MixedAttention', shape);
    return new MixedState(
      this.mechanisms.map((part, i) => {
        const heads = this.heads[i] as number;
        return part.initState({ ...shape, heads, kvHeads: heads });
      }),
    );
  }

  override step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: MechanismState,
    turns: RotaryTurns | null = null,
  ): Tensor {
    if (!(state instanceof MixedState)) return super.step(q, k, v, state);
    const [queries, keys, values] = this.#divide(q, k, v);
    return joined(
      this.mechanisms.map((part, i) =>
        part.step(
          queries[i] as Tensor,
          keys[i] as Tensor,
          values[i] as Tensor,
          state.states[i] as MechanismState,
          turns,
        ),
      ),
    );
  }

  config(): MechanismConfig {
    const groups = this.mechanisms.map((part, i) => ({
      heads: this.heads[i],
      mechanism: part.config(),
    }));
    return { name: this.name, groups };
  }

  flops(queries: number, keys: number, shape: FlopShape): number {
    return this.mechanisms.reduce((sum, part, i) => {
      const heads = this.heads[i] as number;
      return sum + part.flops(queries, keys, { ...shape, heads });
    }, 0);
  }

  protected override describe(): string {
    return this.heads.join(' + ');
  }

  #divide(q: Tensor, k: Tensor, v: Tensor): [Tensors, Tensors, Tensors] {
    const total = this.heads.reduce((n, heads) => n + heads);
    if (q.dim(1) !== total) {
      const remedy = `Its groups have ${total} heads`;
      throw new ArgumentError('ERR_SHAPE', 'MixedAttention', 'q', q.toString(), remedy);
    }
    const queries = unpack(q, 1, this.heads);
    return [queries, k === q ? queries : unpack(k, 1, this.heads), unpack(v, 1, this.heads)];
  }
}

type Tensors = readonly Tensor[];

/** Heads put together where tokens stand furthest apart, as the output projection reads them. */
function joined(parts: Tensors): Tensor {
  const order = [0, 2, 1, 3];
  return permute(
    concat(
      parts.map((y) => permute(y, order)),
      2,
    ),
    order,
  );
}

/** The states of all groups. */
class MixedState implements MechanismState {
  constructor(readonly states: readonly MechanismState[]) {}

  get byteLength(): number {
    return this.states.reduce((n, state) => n + state.byteLength, 0);
  }

  prepare(count: number): void {
    for (const state of this.states) state.prepare?.(count);
  }

  replaying(count: number): void {
    for (const state of this.states) state.replaying?.(count);
  }

  reorder(parents: Tensor): void {
    for (const state of this.states) state.reorder(parents);
  }

  reset(): void {
    for (const state of this.states) state.reset();
  }

  dispose(): void {
    for (const state of this.states) state.dispose();
  }
}

registerMechanism(
  'mixed',
  (options, made) =>
    new MixedAttention({ ...(options as unknown as MixedAttentionOptions), ...made }),
);
