import { show } from '../../core/declare.js';
import { Generator } from '../../core/generator.js';
import {
  checkFlags,
  checkSizes as checkIntegers,
  checkNumbers,
  checkOptions,
} from '../../core/options.js';
import { keep } from '../../core/scope.js';
import type { Tensor } from '../../core/tensor.js';
import { LshCache, lshAttention, lshRotations, lshStep } from '../../sparse/index.js';
import { bucketFactors } from '../../sparse/lsh-buckets.js';
import { checkSizes } from '../layers/options.js';
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
import { registerMechanism } from './registry.js';

/** Options of {@link LshAttention}. */
export interface LshAttentionOptions {
  /** Whether a query sees only tokens up to its own. Default false. */
  causal?: boolean;
  /** An even number of buckets, or even factors of it. */
  buckets: number | readonly number[];
  /** Independent hashes. Default 4. */
  rounds?: number;
  /** Hashes in `eval()`. Default `rounds`. */
  evalRounds?: number;
  /** Sorted tokens that see each other and, causal, those of the chunk before. Default 64. */
  chunk?: number;
  /** Factor on the scores. Default 1 / sqrt(D). */
  scale?: number;
  /** Of the rotations in `eval()`, which are always the same. Default 0. */
  seed?: number;
}

const optionNames = ['causal', 'buckets', 'rounds', 'evalRounds', 'chunk', 'scale', 'seed'];

/**
 * Attention among tokens that share a bucket of a random hash (Kitaev et al. 2020), see `lshAttention`; keys
 * are the queries, normalised. In training every call draws new rotations, which layers that are computed
 * again keep together with the buckets; in `eval()` they are fixed by `seed`.
 *
 * @example
 * const mechanism = new LshAttention({ causal: true, buckets: 32, rounds: 4, chunk: 64 });
 * const attention = new MultiHeadAttention({ dModel: 64, heads: 2, mechanism });
 */
export class LshAttention extends Mechanism {
  readonly name = 'lsh';
  readonly causality: Causality;
  override readonly random = true;
  override readonly decodes: boolean;
  override readonly capturable: boolean;
  override readonly sharedKeys = true;
  readonly #options: LshAttentionOptions;
  /** Rotations of `eval()`, by the shape and place they are for. */
  readonly #rotations = new Map<string, Tensor>();

  constructor(options: LshAttentionOptions) {
    super();
    checkOptions('LshAttention', options, optionNames);
    const { causal = false, buckets, rounds = 4, evalRounds = rounds, chunk = 64 } = options;
    bucketFactors('LshAttention', buckets);
    checkSizes('LshAttention', { rounds, evalRounds, chunk });
    checkFlags('LshAttention', { causal });
    checkNumbers('LshAttention', { scale: options.scale });
    const { seed = 0 } = options;
    checkIntegers('LshAttention', { seed }, Number.MIN_SAFE_INTEGER);
    this.#options = { ...options };
    this.causality = causal ? 'causal' : 'full';
    this.decodes = causal;
    this.capturable = causal;
  }

  /** Keys are made of `q`; `k` is not read. */
  forward(q: Tensor, _k: Tensor, v: Tensor, context: MechanismContext = {}): Tensor {
    checkHeads('LshAttention', { q, v }, context);
    const { causal = false, buckets, rounds = 4, chunk = 64, scale } = this.#options;
    const { lengths = null, generator } = context;
    const { training } = this;
    return lshAttention(q, v, {
      ...{ causal, buckets, chunk, lengths },
      ...(scale !== undefined && { scale }),
      ...(training ? { rounds } : { rotations: this.#fixed(q) }),
      ...(training && generator && { generator }),
    });
  }

  override initState(shape: StateShape): MechanismState {
    if (!this.decodes) return super.initState(shape);
    checkShape('LshAttention', shape);
    const { buckets, rounds = 4, evalRounds = rounds, chunk = 64 } = this.#options;
    const { batch, heads, capacity, keyDim, valueDim, dtype, device } = shape;
    return new LshCache({
      ...{ batch, heads, capacity, buckets, rounds: evalRounds, chunk },
      ...{ keyDim, valueDim, dtype, device },
    });
  }

  /** With the rotations of `eval()`. */
  override step(q: Tensor, k: Tensor, v: Tensor, state: MechanismState): Tensor {
    if (!(state instanceof LshCache)) return super.step(q, k, v, state);
    const { scale } = this.#options;
    return lshStep(q, v, this.#fixed(q), state, scale !== undefined ? { scale } : {});
  }

  config(): MechanismConfig {
    return { name: this.name, ...this.#options };
  }

  /** Hashing and, at most, the keys of full chunks: what is masked counts. */
  flops(queries: number, keys: number, shape: FlopShape): number {
    checkShape('LshAttention', shape);
    const { batch, heads, keyDim, valueDim } = shape;
    const { causal, buckets, rounds = 4, evalRounds = rounds, chunk = 64 } = this.#options;
    const times = this.training ? rounds : evalRounds;
    const columns = bucketFactors('LshAttention', buckets).reduce((n, f) => n + f / 2, 0);
    const seen = Math.min(keys, (causal ? 2 : 3) * chunk);
    const perQuery = 2 * keyDim * columns + 2 * seen * (keyDim + valueDim);
    return batch * heads * queries * times * perQuery;
  }

  #fixed(q: Tensor): Tensor {
    const { buckets, rounds = 4, evalRounds = rounds, seed = 0 } = this.#options;
    const key = `${q.device.name} ${q.dim(1)} ${q.dim(3)}`;
    let rotations = this.#rotations.get(key);
    if (!rotations) {
      const generator = new Generator(seed, q.device);
      rotations = keep(lshRotations(q, { buckets, rounds: evalRounds, generator }));
      generator.dispose();
      this.#rotations.set(key, rotations);
    }
    return rotations;
  }

  protected override describe(): string {
    const given = Object.entries(this.#options).map(([name, value]) => `${name}: ${show(value)}`);
    return given.join(', ');
  }
}

registerMechanism('lsh', (options) => new LshAttention(options as unknown as LshAttentionOptions));
