import { decideOnce } from '../../core/autograd/index.js';
import { zeros } from '../../core/create.js';
import { show } from '../../core/declare.js';
import type { DType } from '../../core/dtype.js';
import { ArgumentError } from '../../core/errors.js';
import { Generator } from '../../core/generator.js';
import {
  checkFlags,
  checkInstance,
  checkNumbers,
  checkOptions,
  checkSizes,
} from '../../core/options.js';
import { assign, copy, full } from '../../core/primitives.js';
import type { Tensor } from '../../core/tensor.js';
import { add, concat, mul, normal, randint } from '../../dense/index.js';
import {
  commitmentLoss,
  type KmeansState,
  kmeansAssign,
  kmeansInitialise,
  kmeansUpdate,
  sumsOf,
} from '../../sparse/kmeans.js';
import { routingAttention } from '../../sparse/routing-attention.js';
import { RoutingCache, routingStep } from '../../sparse/routing-step.js';
import {
  type Causality,
  checkHeads,
  checkShape,
  type FlopShape,
  Mechanism,
  type MechanismConfig,
  type MechanismContext,
  type MechanismState,
  type StateShape,
} from '../mechanism.js';
import { buffer } from '../parameter.js';
import { type MechanismOptions, registerMechanism } from './registry.js';

/** Options of {@link RoutingAttention}. */
export interface RoutingAttentionOptions extends MechanismOptions {
  heads: number;
  /** Width of a head's queries and keys. */
  dim: number;
  /** Centroids of each head. */
  clusters: number;
  /** See `routingAttention`. Default 128. */
  window?: number;
  /** Default true. */
  causal?: boolean;
  /** See `routingAttention`: the paper's form, which leaks. Default false. */
  balanced?: boolean;
  /** Keys are the queries, normalised. Default false. */
  sharedKeys?: boolean;
  /** Factor on the products. Default 1 / sqrt(dim). */
  scale?: number;
  /** Of the averages that centroids are made of, per forward call in training. Default 0.999. */
  decay?: number;
  /** Factor on the commitment loss. Default 1e-4; 0 for none. */
  commitment?: number;
  /** Lloyd's iterations over the first batch in training. Default 10. */
  iterations?: number;
}

const optionNames = [
  ...['heads', 'dim', 'clusters', 'window', 'causal', 'balanced', 'sharedKeys', 'scale'],
  ...['decay', 'commitment', 'iterations', 'generator'],
];

/**
 * Attention of the Routing Transformer (Roy et al. 2021), see `routingAttention`, with centroids learned by online
 * k-means: the first batch in training gives them by Lloyd's iterations, every further one moves them
 * after it was routed, and clusters that lose their members start anew. Centroids, averages and the random state
 * are buffers, drawn from `generator`: a run that is resumed continues bit for bit. In evaluation nothing moves.
 *
 * Where the layer is computed again in backward (`checkpoint`, `reversible`), tokens keep their clusters and
 * centroids move once.
 *
 * @example
 * const mechanism = new RoutingAttention({ heads: 2, dim: 16, clusters: 8, window: 32 });
 * const x = normal([1, 2, 100, 16]);
 * const y = mechanism.forward(x, x, x);
 */
export class RoutingAttention extends Mechanism {
  readonly name = 'routing';
  readonly causality: Causality;
  override readonly decodes: boolean;
  override readonly capturable: boolean;
  override readonly sharedKeys: boolean;
  /** f32 [heads, clusters, dim]. */
  readonly centroids: Tensor;
  readonly averageSums: Tensor;
  readonly averageCounts: Tensor;
  readonly generatorState: Tensor;
  /** i32 [1]: whether the first batch was seen. */
  readonly initialised: Tensor;
  readonly #options: Required<Omit<RoutingAttentionOptions, 'scale' | 'generator'>> & {
    scale?: number;
  };
  /** Where and in which version `initialised` was found to be 1. */
  #seen: { readonly storage: unknown; readonly version: number } | null = null;
  #auxiliary: Tensor | null = null;

  constructor(options: RoutingAttentionOptions) {
    super();
    checkOptions('RoutingAttention', options, optionNames);
    const { heads, dim, clusters, window = 128, causal = true, balanced = false } = options;
    const { sharedKeys = false, decay = 0.999, commitment = 1e-4, iterations = 10 } = options;
    checkSizes('RoutingAttention', { heads, dim, clusters, window });
    checkSizes('RoutingAttention', { iterations }, 0);
    checkFlags('RoutingAttention', { causal, balanced, sharedKeys });
    checkNumbers('RoutingAttention', { scale: options.scale });
    const rates = { decay: [decay, 1], commitment: [commitment, Number.MAX_VALUE] } as const;
    for (const [name, [rate, most]] of Object.entries(rates)) {
      if (typeof rate === 'number' && rate >= 0 && rate <= most) continue;
      const remedy = name === 'decay' ? 'Use a number from 0 to 1' : 'Use a number from 0 on';
      throw new ArgumentError('ERR_VALUE', 'RoutingAttention', name, show(rate), remedy);
    }
    this.#options = {
      ...{ heads, dim, clusters, window, causal, balanced, sharedKeys },
      ...{ decay, commitment, iterations },
      ...(options.scale !== undefined && { scale: options.scale }),
    };
    const open = causal ? 'leaking' : 'full';
    this.causality = causal && !balanced ? 'causal' : open;
    this.decodes = this.causality === 'causal';
    this.capturable = this.decodes;
    this.sharedKeys = sharedKeys;
    const still = { keepDtype: true };
    const { generator } = options;
    if (generator !== undefined)
      checkInstance('RoutingAttention', 'generator', generator, Generator);
    const from = generator && { generator };
    const none = (shape: number[], dtype: DType = 'f32') =>
      zeros(shape, { dtype, ...(generator && { device: generator.device }) });
    this.centroids = buffer(normal([heads, clusters, dim], from), still);
    this.averageSums = buffer(none([heads, clusters, dim]), still);
    this.averageCounts = buffer(none([heads, clusters]), still);
    const seed = randint([2], -(2 ** 31), 2 ** 31, from);
    this.generatorState = buffer(concat([seed, none([2], 'i32')], 0), still);
    this.initialised = buffer(none([1], 'i32'), still);
  }

  forward(q: Tensor, k: Tensor, v: Tensor, context: MechanismContext = {}): Tensor {
    const { window, causal, balanced, sharedKeys, scale } = this.#options;
    checkHeads('RoutingAttention', sharedKeys ? { q, v } : { q, k, v }, context);
    this.#checkHeads(q);
    const lengths = context.lengths ?? null;
    const tokens = sharedKeys ? [q] : [q, k];
    // Tokens are routed by the centroids as they are, which the batch then moves.
    const [centroids, assignments, keyAssignments] = decideOnce(() => {
      if (this.training) this.#initialise(tokens, lengths);
      const used = copy(this.centroids);
      const found = tokens.map((x) => {
        const { assignments: clusters, scores } = kmeansAssign(x, used, { lengths });
        scores.dispose();
        return clusters;
      });
      if (this.training) this.#update(tokens, found, lengths);
      return [used, ...found];
    }) as [Tensor, Tensor, Tensor?];
    if (this.training && this.#options.commitment > 0) {
      this.#auxiliary?.dispose();
      this.#auxiliary = this.#commitment(tokens, centroids, [assignments, keyAssignments]);
    }
    return routingAttention(q, sharedKeys ? null : k, v, centroids, {
      ...{ window, causal, balanced, lengths },
      ...(!sharedKeys && { keyLengths: lengths }),
      ...(!balanced && { assignments, ...(keyAssignments && { keyAssignments }) }),
      ...(scale !== undefined && { scale }),
    });
  }

  override auxiliaryLoss(): Tensor | null {
    const loss = this.#auxiliary;
    this.#auxiliary = null;
    return loss;
  }

  override initState(shape: StateShape): MechanismState {
    if (!this.decodes) return super.initState(shape);
    checkShape('RoutingAttention', shape);
    const { clusters, window } = this.#options;
    const { batch, heads, keyDim, valueDim, dtype, device, capacity } = shape;
    return new RoutingCache({
      ...{ batch, heads, clusters, keyDim, valueDim, dtype, device },
      window: Math.min(window, capacity),
    });
  }

  override step(q: Tensor, k: Tensor, v: Tensor, state: MechanismState): Tensor {
    if (!(state instanceof RoutingCache)) return super.step(q, k, v, state);
    const { scale, sharedKeys } = this.#options;
    checkHeads('RoutingAttention', sharedKeys ? { q, v } : { q, k, v }, {});
    this.#checkHeads(q);
    return routingStep(q, sharedKeys ? null : k, v, this.centroids, state, {
      ...(scale !== undefined && { scale }),
    });
  }

  config(): MechanismConfig {
    return { name: this.name, ...this.#options };
  }

  flops(queries: number, keys: number, shape: FlopShape): number {
    checkShape('RoutingAttention', shape);
    const { batch, heads, keyDim, valueDim } = shape;
    const { clusters, window, causal, balanced, sharedKeys } = this.#options;
    const assigned = queries + (sharedKeys ? 0 : keys);
    const members = Math.min(window, keys);
    const seen = balanced ? (clusters * members * members) / queries : members * (causal ? 1 : 3);
    const pairs = queries * Math.min(seen, keys);
    return 2 * batch * heads * (assigned * clusters * keyDim + pairs * (keyDim + valueDim));
  }

  protected override describe(): string {
    const { heads, clusters, window } = this.#options;
    return `heads: ${heads}, clusters: ${clusters}, window: ${window}`;
  }

  #checkHeads(q: Tensor): void {
    const { heads, dim } = this.#options;
    if (q.rank === 4 && q.shape[1] === heads && q.shape[3] === dim) return;
    const remedy = `It must be [B, ${heads}, N, ${dim}], as its centroids are`;
    throw new ArgumentError('ERR_SHAPE', 'RoutingAttention', 'q', show(q), remedy);
  }

  get #state(): KmeansState {
    const { centroids, averageSums, averageCounts, generatorState } = this;
    return { centroids, sums: averageSums, counts: averageCounts, generator: generatorState };
  }

  #initialise(tokens: readonly Tensor[], lengths: Tensor | null): void {
    const { storage } = this.initialised;
    if (this.#seen?.storage === storage && this.#seen.version === storage.version) return;
    // Read when training begins and after a state was loaded; not in every step.
    if (this.initialised.dataSync()[0] !== 1) {
      kmeansInitialise(this.#state, tokens, { lengths, iterations: this.#options.iterations });
      const one = full([1], 1, { dtype: 'i32', device: this.initialised.device });
      assign(this.initialised, one);
      one.dispose();
    }
    this.#seen = { storage, version: storage.version };
  }

  #update(tokens: readonly Tensor[], assignments: readonly Tensor[], lengths: Tensor | null): void {
    const { clusters, decay } = this.#options;
    const batch = sumsOf(tokens, assignments, clusters);
    kmeansUpdate(this.#state, tokens[0] as Tensor, batch, { lengths, decay });
    batch.sums.dispose();
    batch.counts.dispose();
  }

  #commitment(
    tokens: readonly Tensor[],
    centroids: Tensor,
    assignments: readonly (Tensor | undefined)[],
  ): Tensor {
    const losses = tokens.map((x, i) => commitmentLoss(x, centroids, assignments[i] as Tensor));
    const sum = losses.reduce((total, loss) => add(total, loss));
    return mul(sum, this.#options.commitment / losses.length);
  }
}

registerMechanism('routing', (options, made) => {
  return new RoutingAttention({ ...(options as unknown as RoutingAttentionOptions), ...made });
});
