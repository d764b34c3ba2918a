import { KvPages } from '../../attention/index.js';
import { asTensor, show } from '../../core/declare.js';
import { ArgumentError, UnsupportedError } from '../../core/errors.js';
import type { Generator } from '../../core/generator.js';
import { checkFlags, checkInstance, checkObject, checkOptions } from '../../core/options.js';
import { full } from '../../core/primitives.js';
import type { Tensor } from '../../core/tensor.js';
import { permute, reshape } from '../../core/views.js';
import { linear } from '../../dense/index.js';
import { unpack } from '../functional/unpack.js';
import { initialise } from '../initialise.js';
import { Mechanism, type MechanismState, type StateShape } from '../mechanism.js';
import { SoftmaxAttention } from '../mechanisms/softmax.js';
import { Module } from '../module.js';
import { type Parameter, parameter } from '../parameter.js';
import { Dropout } from './dropout.js';
import { Linear } from './linear.js';
import { RMSNorm } from './norm.js';
import {
  checkSizes,
  constantOptions,
  type LayerOptions,
  layerOptionNames,
  layerOptions,
} from './options.js';
import { RotaryPositions } from './rotary.js';

/** Options of {@link MultiHeadAttention}. */
export interface MultiHeadAttentionOptions extends LayerOptions {
  /** Width of inputs and outputs. */
  dModel: number;
  heads: number;
  /** Heads of keys and values, a divisor of `heads` (Ainslie et al. 2023). Default `heads`. */
  kvHeads?: number;
  /** Width of a head. Default dModel / heads. */
  headDim?: number;
  /** What the heads compute. Default `new SoftmaxAttention()`, which sees everything. */
  mechanism?: Mechanism;
  /** Biases of the projections. Default true. */
  bias?: boolean;
  /** Rotates queries and keys of self-attention. Default none. */
  rotary?: RotaryPositions | null;
  /** Probability of dropout on the output; that of weights is an option of the mechanism. Default 0. */
  dropout?: number;
  /** Normalises each head's queries and keys by root mean square (Henry et al. 2020). Default false. */
  qkNorm?: boolean;
}

/** What a call of {@link MultiHeadAttention.forward} may say. */
export interface AttendOptions {
  /** [B, M, dModel], or its projected keys and values. Default: self-attention. */
  memory?: Tensor | KeyValue;
  /** i32 [B]: how many keys of each row are no padding. Default all. */
  lengths?: Tensor | null;
  /** i32 [B, N], for self-attention: tokens see only those with the same id. */
  segmentIds?: Tensor | null;
}

/** Projected keys and values of a memory, [B, Hkv, M, D] each. */
export interface KeyValue {
  readonly k: Tensor;
  readonly v: Tensor;
}

const optionNames = [
  'dModel',
  'heads',
  'kvHeads',
  'headDim',
  'mechanism',
  'bias',
  'rotary',
  'dropout',
  'qkNorm',
  ...layerOptionNames,
];

/**
 * Multi-head attention (Vaswani et al. 2017) around any {@link Mechanism}. Parameters are PyTorch's:
 * `in_proj_weight` holds the rows of queries, then keys, then values; there are none of keys where the
 * mechanism's queries are its keys.
 *
 * @example
 * const attention = new MultiHeadAttention({ dModel: 64, heads: 4 });
 * attention.forward(ones([2, 10, 64])).shape; // [2, 10, 64]
 */
export class MultiHeadAttention extends Module {
  inProjWeight: Parameter;
  inProjBias: Parameter | null;
  readonly outProj: Linear;
  readonly qNorm: RMSNorm | null;
  readonly kNorm: RMSNorm | null;
  readonly mechanism: Mechanism;
  readonly outDropout: Dropout;
  readonly rotary: RotaryPositions | null;
  readonly dModel: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Heads of each part of the packed projection. */
  readonly #heads: readonly number[];
  readonly #generator: Generator | undefined;

  constructor(options: MultiHeadAttentionOptions) {
    super();
    checkOptions('MultiHeadAttention', options, optionNames);
    const { dModel, heads, kvHeads = heads, headDim = dModel / heads } = options;
    const { bias = true, dropout = 0, qkNorm = false, rotary = null } = options;
    checkHeads({ dModel, heads, kvHeads, headDim });
    const made = layerOptions(options);
    const { mechanism = new SoftmaxAttention() } = options;
    checkInstance('MultiHeadAttention', 'mechanism', mechanism, Mechanism);
    if (rotary !== null) checkInstance('MultiHeadAttention', 'rotary', rotary, RotaryPositions);
    checkFlags('MultiHeadAttention', { bias, qkNorm });
    this.#heads = mechanism.sharedKeys ? [heads, kvHeads] : [heads, kvHeads, kvHeads];
    const rows = this.#heads.reduce((n, part) => n + part) * headDim;
    this.dModel = dModel;
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = headDim;
    this.inProjWeight = parameter(full([rows, dModel], 0, constantOptions(options)));
    this.mechanism = mechanism.to(this.inProjWeight.device);
    initialise.xavierUniform(this.inProjWeight, made.generator && { generator: made.generator });
    this.inProjBias = bias ? parameter(full([rows], 0, constantOptions(options))) : null;
    this.outProj = new Linear(heads * headDim, dModel, { ...made, bias });
    if (this.outProj.bias) initialise.constant(this.outProj.bias, 0);
    this.qNorm = qkNorm ? new RMSNorm(headDim, made) : null;
    this.kNorm = qkNorm && !mechanism.sharedKeys ? new RMSNorm(headDim, made) : null;
    if (kvHeads !== heads && !mechanism.groupedHeads) {
      throw new ArgumentError(
        'ERR_OPTION',
        'MultiHeadAttention',
        'kvHeads',
        `${kvHeads} with ${heads} heads`,
        `${mechanism.name} needs as many key heads as query heads`,
      );
    }
    this.outDropout = new Dropout(dropout, made.generator && { generator: made.generator });
    this.rotary = rotary;
    this.#generator = made.generator;
  }

  /**
   * @param x [B, N, dModel]
   * @returns [B, N, dModel]
   */
  forward(x: Tensor, options: AttendOptions = {}): Tensor {
    checkObject('MultiHeadAttention', 'options', options, '{ lengths }, say');
    const { memory, lengths, segmentIds } = options;
    if (segmentIds && (memory || !this.mechanism.segments)) {
      throw new ArgumentError(
        'ERR_OPTION',
        'MultiHeadAttention',
        'segmentIds',
        show(segmentIds),
        memory
          ? 'Leave them out where there is a memory'
          : `The mechanism '${this.mechanism.name}' has no segments; give each document a row`,
      );
    }
    if (memory && this.mechanism.sharedKeys) {
      const remedy = `The mechanism '${this.mechanism.name}' attends to its own queries alone`;
      const given = 'k' in memory ? 'given' : memory.toString();
      throw new ArgumentError('ERR_OPTION', 'MultiHeadAttention', 'memory', given, remedy);
    }
    if (memory) return this.#cross(x, memory, lengths);
    const { q, k, v } = this.#project(x);
    const context = {
      ...(this.#generator && { generator: this.#generator }),
      ...(lengths && { lengths, queryLengths: lengths }),
      ...(segmentIds && { segmentIds }),
    };
    return this.#output(this.mechanism.forward(q, k, v, context), x);
  }

  /** Keys and values of a memory [B, M, dModel], to attend to many times. */
  keyValues(memory: Tensor): KeyValue {
    const { kvHeads, headDim } = this;
    const [, weight] = this.#split(this.inProjWeight);
    const [, bias] = this.inProjBias ? this.#split(this.inProjBias) : [null, null];
    const [b, m] = asTensor('MultiHeadAttention', 'memory', memory).shape as [number, number];
    const packed = reshape(linear(memory, weight, bias), [b, m, 2 * kvHeads, headDim]);
    const [k, v] = unpack(packed, 2, [kvHeads, kvHeads]) as [Tensor, Tensor];
    return { k: headsFirst(this.kNorm ? this.kNorm.forward(k) : k), v: headsFirst(v) };
  }

  /** An empty decoding state of self-attention, in `pages` if given. */
  initState(batch: number, capacity: number, pages: KvPages | null = null): MechanismState {
    const { mechanism } = this;
    if (pages !== null) checkInstance('MultiHeadAttention.initState', 'pages', pages, KvPages);
    if (pages && !mechanism.paged) {
      throw new UnsupportedError(`${mechanism.name}: its state cannot lie in pages`, {
        ...{ operator: 'MultiHeadAttention.initState', argument: 'pages', value: 'given' },
        remedy: 'Leave pages out, or use mechanisms whose `paged` is true',
      });
    }
    return mechanism.initState({ ...this.stateShape(batch, capacity), pages });
  }

  /**
   * Self-attention of T further tokens.
   *
   * @param x [B, T, dModel]
   * @param positions i32 [B, T]
   */
  step(x: Tensor, state: MechanismState, positions: Tensor): Tensor {
    const turns = this.mechanism.rotates ? this.rotary : null;
    const { q, k, v } = this.#project(x, positions, turns ? null : this.rotary);
    return this.#output(this.mechanism.step(q, k, v, state, turns), x);
  }

  /** @internal */
  stateShape(batch: number, capacity: number): StateShape {
    const { heads, kvHeads, headDim, inProjWeight } = this;
    const { dtype, device } = inProjWeight;
    const dims = { keyDim: headDim, valueDim: headDim };
    return { batch, heads, kvHeads, ...dims, capacity, dtype, device };
  }

  /** Queries, keys and values of self-attention, heads first, as views where nothing rotates. */
  #project(
    x: Tensor,
    positions?: Tensor,
    rotary = this.rotary,
  ): { q: Tensor; k: Tensor; v: Tensor } {
    const [b, n] = rowsOf(x, this.dModel);
    const packed = linear(x, this.inProjWeight, this.inProjBias);
    const parts = unpack(reshape(packed, [b, n, -1, this.headDim]), 2, this.#heads);
    let [q, v] = [parts[0] as Tensor, parts.at(-1) as Tensor];
    let k = parts.length > 2 ? (parts[1] as Tensor) : null;
    if (this.qNorm) q = this.qNorm.forward(q);
    if (k && this.kNorm) k = this.kNorm.forward(k);
    if (rotary) {
      q = rotary.forward(q, positions);
      if (k) k = rotary.forward(k, positions);
    }
    const queries = headsFirst(q);
    return { q: queries, k: k ? headsFirst(k) : queries, v: headsFirst(v) };
  }

  #cross(x: Tensor, memory: Tensor | KeyValue, lengths: Tensor | null | undefined): Tensor {
    const { heads, headDim } = this;
    const { k, v } = 'k' in memory ? memory : this.keyValues(memory);
    const [weight] = this.#split(this.inProjWeight);
    const [bias] = this.inProjBias ? this.#split(this.inProjBias) : [null];
    const [b, n] = rowsOf(x, this.dModel);
    // Rows that share a memory (the beams of a sentence) stand side by side as its queries.
    const memories = k.dim(0);
    const queries = (b / memories) * n;
    if (!Number.isInteger(queries)) {
      throw new ArgumentError(
        'ERR_SHAPE',
        'MultiHeadAttention',
        'memory',
        `of ${memories} rows for ${b} rows of x`,
        'Give one memory per row, or one per group of equally many rows',
      );
    }
    const flat = reshape(linear(x, weight, bias), [memories, queries, heads, headDim]);
    const q = headsFirst(this.qNorm ? this.qNorm.forward(flat) : flat);
    return this.#output(this.mechanism.forward(q, k, v, lengths ? { lengths } : {}), x);
  }

  /** Rows of a packed parameter for queries, and for keys and values. */
  #split(packed: Tensor): [Tensor, Tensor] {
    const { heads, kvHeads, headDim } = this;
    return unpack(packed, 0, [heads * headDim, 2 * kvHeads * headDim]) as [Tensor, Tensor];
  }

  /** [B, H, N, D] to [B, N, dModel]. */
  #output(y: Tensor, x: Tensor): Tensor {
    const [b, n] = x.shape as [number, number];
    const merged = reshape(headsFirst(y), [b, n, this.heads * this.headDim]);
    return this.outDropout.forward(this.outProj.forward(merged));
  }

  protected override describe(): string {
    const { dModel, heads, kvHeads, headDim } = this;
    return `${dModel}, heads: ${heads}${kvHeads === heads ? '' : `, kvHeads: ${kvHeads}`}${
      headDim * heads === dModel ? '' : `, headDim: ${headDim}`
    }${this.rotary ? `, rotary: ${this.rotary.dim}` : ''}`;
  }
}

/** [B, N, H, D] to [B, H, N, D] and back, a view. */
function headsFirst(x: Tensor): Tensor {
  return permute(x, [0, 2, 1, 3]);
}

function rowsOf(x: Tensor, dModel: number): [number, number] {
  asTensor('MultiHeadAttention', 'x', x);
  if (x.rank !== 3 || x.shape[2] !== dModel) {
    throw new ArgumentError(
      'ERR_SHAPE',
      'MultiHeadAttention',
      'x',
      x.toString(),
      `Give [batch, length, ${dModel}]`,
    );
  }
  return [x.shape[0] as number, x.shape[1] as number];
}

function checkHeads(sizes: Record<'dModel' | 'heads' | 'kvHeads' | 'headDim', number>): void {
  const { headDim, ...rest } = sizes;
  checkSizes('MultiHeadAttention', rest);
  const { dModel, heads, kvHeads } = rest;
  if (!Number.isSafeInteger(headDim) || headDim < 1) {
    throw new ArgumentError(
      'ERR_OPTION',
      'MultiHeadAttention',
      'heads',
      show(heads),
      `It must divide dModel, ${dModel}, unless headDim is given as an integer >= 1`,
    );
  }
  if (heads % kvHeads !== 0) {
    throw new ArgumentError(
      'ERR_OPTION',
      'MultiHeadAttention',
      'kvHeads',
      show(kvHeads),
      `It must divide heads, ${heads}`,
    );
  }
}
