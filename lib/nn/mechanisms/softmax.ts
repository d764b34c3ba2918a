import {
  type AttentionOptions,
  attention,
  attentionDecode,
  KvCache,
  type PagedKvCache,
} from '../../attention/index.js';
import { show } from '../../core/declare.js';
import { ArgumentError, OutOfMemoryError, UnsupportedError } from '../../core/errors.js';
import { isCapturing } from '../../core/graph.js';
import { checkFlags, checkNumbers, checkOptions, checkSizes } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import { permute } from '../../core/views.js';
import { rotary } from '../../dense/index.js';
import { checkProbability } from '../layers/options.js';
import {
  type Causality,
  checkHeads,
  checkShape,
  type FlopShape,
  Mechanism,
  type MechanismConfig,
  type MechanismContext,
  type MechanismState,
  type RotaryTurns,
  type StateShape,
} from '../mechanism.js';
import { registerMechanism } from './registry.js';

type SingleOutput = Omit<AttentionOptions, 'returnLse'>;

/** Options of {@link SoftmaxAttention}. */
export interface SoftmaxAttentionOptions {
  /** Whether a query sees only keys up to its own position. Default false. */
  causal?: boolean;
  /** Factor on the scores. Default 1 / sqrt(D). */
  scale?: number;
  /** Keys a query sees before its own position, and after it unless causal. Default all. */
  window?: number;
  /** Scores become softcap * tanh(scores / softcap). Default none. */
  softcap?: number;
  /** Probability with which a weight is dropped after the softmax, in training. Default 0. */
  dropout?: number;
  /**
   * Rotates queries and keys by their positions itself (see `rotary`), where other heads of the layer
   * are not to be rotated. Default none.
   */
  rotary?: { dim?: number; base?: number; interleaved?: boolean } | null;
}

/**
 * Exact softmax attention (Vaswani et al. 2017), computed in tiles; see `attention`. Causal masks align
 * to the last key.
 *
 * @example
 * const mechanism = new SoftmaxAttention({ causal: true, window: 128 });
 */
export class SoftmaxAttention extends Mechanism {
  readonly name = 'softmax';
  readonly causality: Causality;
  override readonly decodes: boolean;
  override readonly capturable: boolean;
  override readonly groupedHeads = true;
  override readonly cross = true;
  override readonly segments: boolean = true;
  override readonly rotates: boolean;
  override readonly paged: boolean;
  override readonly random: boolean;
  readonly #options: SoftmaxAttentionOptions;

  constructor(options: SoftmaxAttentionOptions = {}) {
    super();
    checkOptions('SoftmaxAttention', options, optionNames);
    const { dropout = 0 } = options;
    checkProbability('SoftmaxAttention', 'dropout', dropout);
    const { causal, scale, window, softcap } = options;
    checkFlags('SoftmaxAttention', { causal });
    checkNumbers('SoftmaxAttention', { scale, softcap });
    if (window !== undefined) checkSizes('SoftmaxAttention', { window }, 0);
    this.#options = { ...options };
    this.causality = options.causal ? 'causal' : 'full';
    this.decodes = this.causality === 'causal';
    this.capturable = this.decodes;
    this.paged = this.decodes;
    this.rotates = !options.rotary;
    this.random = dropout > 0;
    if (options.rotary) checkOptions('SoftmaxAttention.rotary', options.rotary, rotaryNames);
  }

  forward(q: Tensor, k: Tensor, v: Tensor, context: MechanismContext = {}): Tensor {
    checkHeads('SoftmaxAttention', { q, k, v }, context);
    const { lengths, queryLengths, segmentIds, generator } = context;
    const drops = this.training && this.random;
    const options: SingleOutput = {
      ...this.attentionOptions(),
      ...(lengths && { keyLengths: lengths }),
      ...(segmentIds && { segmentIds }),
      ...(drops && { dropout: this.#options.dropout ?? 0, ...(generator && { generator }) }),
      // Causal masks align to the last query that counts.
      ...(queryLengths && this.#options.causal && { queryLengths }),
    };
    const turns = this.#turns(q);
    if (!isTokenMajor(q)) {
      const [a, b] = turns ? [rotary(q, turns), rotary(k, turns)] : [q, k];
      return attention(a, b, v, options);
    }
    // What comes from a projection lies as [B, N, H, D]: the result then does too, and the projection
    // that follows reads it without a copy.
    let [a, b, c] = [q, k, v].map(swapped) as [Tensor, Tensor, Tensor];
    if (turns) [a, b] = [rotary(a, { ...turns, axis: 1 }), rotary(b, { ...turns, axis: 1 })];
    return swapped(attention(a, b, c, { ...options, layout: 'bnhd' }));
  }

  override initState(shape: StateShape): MechanismState {
    if (!this.decodes) return super.initState(shape);
    checkShape('SoftmaxAttention', shape);
    const { batch, kvHeads: heads, keyDim: headDim, valueDim, capacity, dtype, device } = shape;
    const rows = { heads, headDim, valueDim, dtype, device };
    return shape.pages
      ? new PagedState(shape.pages.cacheFor(this, batch, capacity, rows))
      : new CacheState(new KvCache({ batch, capacity, ...rows }));
  }

  override step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: MechanismState,
    turns: RotaryTurns | null = null,
  ): Tensor {
    if (!(state instanceof CacheState || state instanceof PagedState))
      return super.step(q, k, v, state);
    const turned = this.#turns(q) ?? turns;
    const queries = state.append(k, v, turned && rotaryOf(q, turned)) ?? q;
    const { cache } = state;
    const { scale, window, softcap } = this.#options;
    return attentionDecode(queries, cache, {
      ...(scale !== undefined && { scale }),
      ...(softcap !== undefined && { softcap }),
      ...(window !== undefined && { windowLeft: window }),
    });
  }

  config(): MechanismConfig {
    return { name: this.name, ...this.#options };
  }

  /** How it rotates queries and keys itself. */
  #turns(q: Tensor): RotaryTurns | null {
    const { rotary: own } = this.#options;
    if (!own) return null;
    return {
      dim: own.dim ?? q.dim(3),
      base: own.base ?? 10000,
      interleaved: own.interleaved ?? false,
    };
  }

  flops(queries: number, keys: number, shape: FlopShape): number {
    checkShape('SoftmaxAttention', shape);
    const { batch, heads, keyDim, valueDim } = shape;
    const { causal = false, window = Number.POSITIVE_INFINITY } = this.#options;
    let pairs = 0;
    for (let i = 0; i < queries; i++) {
      const at = i + keys - queries;
      const first = Math.max(0, at - window);
      const last = causal ? at : Math.min(keys - 1, at + window);
      pairs += Math.max(0, last - first + 1);
    }
    return 2 * batch * heads * pairs * (keyDim + valueDim);
  }

  protected override describe(): string {
    const given = Object.entries(this.#options).map(([name, value]) => `${name}: ${show(value)}`);
    return given.join(', ');
  }

  /** @internal The options of the operator. */
  protected attentionOptions(): SingleOutput {
    const { causal = false, scale, window, softcap } = this.#options;
    return {
      causal,
      ...(scale !== undefined && { scale }),
      ...(window !== undefined && { window: [window, causal ? -1 : window] as const }),
      ...(softcap !== undefined && { softcap }),
    };
  }
}

/** Keys and values of the tokens so far. */
class CacheState implements MechanismState {
  constructor(readonly cache: KvCache) {}

  /** Takes in new tokens; the rotated queries, where there is something to rotate. */
  append(k: Tensor, v: Tensor, rotary: Rotary | null): Tensor | null {
    return this.cache.append(k, v, rotary ? { rotary } : {});
  }

  get byteLength(): number {
    return this.cache.keys.byteLength + this.cache.values.byteLength;
  }

  reorder(parents: Tensor): void {
    this.cache.reorder(parents);
  }

  reset(): void {
    this.cache.reset();
  }

  dispose(): void {
    this.cache.dispose();
  }
}

/** The same in pages that other states take from too. */
class PagedState implements MechanismState {
  /** Tokens of the next step, if room was made for them. */
  #prepared = 0;

  constructor(readonly cache: PagedKvCache) {}

  prepare(count: number): void {
    this.replaying(count);
    this.#prepared = count;
  }

  replaying(count: number): void {
    try {
      this.cache.advance(count);
    } catch (cause) {
      if (!(cause instanceof OutOfMemoryError)) throw cause;
      throw new OutOfMemoryError(
        `SoftmaxAttention.step: no page is free for ${count} further tokens after ${this.cache.lengthOf(0)}`,
        {
          ...{ operator: 'SoftmaxAttention.step', argument: 'pages', cause },
          value: `${this.cache.freePages} of ${this.cache.keys.dim(0)} free`,
          remedy:
            'Dispose of another state, or end another generation, which gives its pages back; or make the KvPages with more pages',
        },
      );
    }
  }

  append(k: Tensor, v: Tensor, rotary: Rotary | null): Tensor | null {
    const tokens = k.dim(2);
    if (this.#prepared === 0) {
      if (isCapturing()) {
        throw new UnsupportedError('SoftmaxAttention.step: pages cannot be taken in a recording', {
          ...{ operator: 'SoftmaxAttention.step', argument: 'state', value: 'not prepared' },
          remedy: 'Call prepare(1) of the state before device.capture',
        });
      }
      this.replaying(tokens);
    } else if (this.#prepared !== tokens) {
      const remedy = `Room was made for ${this.#prepared}`;
      throw new ArgumentError('ERR_SHAPE', 'SoftmaxAttention.step', 'k', show(k), remedy);
    }
    this.#prepared = 0;
    return this.cache.write(k, v, rotary ? { rotary } : {});
  }

  get byteLength(): number {
    const { keys, values, heldPages } = this.cache;
    return ((keys.byteLength + values.byteLength) / keys.dim(0)) * heldPages;
  }

  reorder(parents: Tensor): void {
    this.cache.reorder([...(parents.dataSync() as Int32Array)]);
  }

  reset(): void {
    this.cache.truncate(0);
    this.#prepared = 0;
  }

  dispose(): void {
    this.cache.dispose();
  }
}

const optionNames = ['causal', 'scale', 'window', 'softcap', 'dropout', 'rotary'];
const rotaryNames = ['dim', 'base', 'interleaved'];

registerMechanism('softmax', (options) => new SoftmaxAttention(options));

type Rotary = RotaryTurns & { readonly queries: Tensor };

function rotaryOf(queries: Tensor, { dim, base, interleaved }: RotaryTurns): Rotary {
  return { dim, base, interleaved, queries };
}

/** Whether the tokens of [B, H, N, D] stand further apart in memory than its heads. */
function isTokenMajor(x: Tensor): boolean {
  return (x.strides[2] as number) > (x.strides[1] as number);
}

function swapped(x: Tensor): Tensor {
  return permute(x, [0, 2, 1, 3]);
}
