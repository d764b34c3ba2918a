import type { KvPages } from '../attention/index.js';
import { noGrad } from '../core/autograd/index.js';
import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkFlags, checkInstance, checkNumbers, checkOptions } from '../core/options.js';
import { tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { reshape } from '../core/views.js';
import { add, crossEntropy, div, linear, maximum, notEqual, sum } from '../dense/index.js';
import { DecodingState } from '../nn/decoding-state.js';
import { chunked } from '../nn/functional/chunked.js';
import { initialise } from '../nn/initialise.js';
import { Dropout } from '../nn/layers/dropout.js';
import { Embedding } from '../nn/layers/embedding.js';
import type { LayerContext } from '../nn/layers/encoder-layer.js';
import {
  type FeedForwardActivation,
  feedForwardActivations,
  isGated,
} from '../nn/layers/feed-forward.js';
import { Linear } from '../nn/layers/linear.js';
import { type NormKind, normKinds } from '../nn/layers/norm.js';
import {
  checkChoice,
  checkProbability,
  checkSizes,
  type LayerOptions,
  layerOptionNames,
  layerOptions,
} from '../nn/layers/options.js';
import {
  AxialPositions,
  LearnedPositions,
  SinusoidalPositions,
  type TablePositions,
} from '../nn/layers/positions.js';
import { RotaryPositions } from '../nn/layers/rotary.js';
import { Encoder } from '../nn/layers/stacks.js';
import { Mechanism, type MechanismConfig } from '../nn/mechanism.js';
import { mechanismFrom } from '../nn/mechanisms/registry.js';
import { SoftmaxAttention } from '../nn/mechanisms/softmax.js';
import { Module } from '../nn/module.js';

/** Shape of a {@link TransformerLM}, as JSON. */
export interface TransformerLMConfig {
  /** Number of tokens. */
  vocabSize: number;
  /** Width of the residual stream. */
  dModel: number;
  layers: number;
  heads: number;
  /** Heads of keys and values. Default `heads`. */
  kvHeads: number;
  /** Width of the feed-forward part. Default 4 dModel, for gated activations 8/3 dModel rounded up to 8. */
  feedForward: number;
  /** Default `swiglu`. */
  activation: FeedForwardActivation;
  /** Default `rms`. */
  norm: NormKind;
  /** Default 1e-5. */
  eps: number;
  /** Default `rotary`. */
  position: 'rotary' | 'learned' | 'sinusoidal' | 'axial' | 'none';
  /** Base of the rotary frequencies. Default 10000. */
  rotaryBase: number;
  /** The grid of `axial` positions and the channels of its axes, see `AxialPositions`. */
  axial: { readonly shape: readonly number[]; readonly dims?: readonly number[] } | null;
  /**
   * Longest sequence; a limit for positions from tables. Default 2048, with `axial` positions what the
   * grid holds.
   */
  maxLength: number;
  /** Whether the output layer uses the table of the embedding. Default true. */
  tiedEmbeddings: boolean;
  /** Probability of dropout on the embedding and on the output of each part. Default 0. */
  dropout: number;
  /** Biases of projections and norms. Default false. */
  bias: boolean;
  /** Normalises queries and keys. Default false. */
  qkNorm: boolean;
  /** Two streams whose memory does not grow with depth, see `EncoderOptions`. Default false. */
  reversible: boolean;
  /** Tokens of the feed-forward part at a time, see `FeedForward`. Default: all at once. */
  feedForwardChunk: number | null;
  /** The mechanism of every layer, or a list with one for each. Default causal softmax attention. */
  mechanism: MechanismConfig | readonly MechanismConfig[];
}

/** Options of {@link TransformerLM}. */
export interface TransformerLMOptions
  extends LayerOptions,
    Partial<Omit<TransformerLMConfig, 'vocabSize' | 'dModel' | 'layers' | 'heads' | 'mechanism'>>,
    Pick<TransformerLMConfig, 'vocabSize' | 'dModel' | 'layers' | 'heads'> {
  /** Makes the mechanism of a layer, or says how to. It must be causal. */
  mechanism?: TransformerLMConfig['mechanism'] | ((layer: number) => Mechanism);
  /** Computes each layer again during backward instead of keeping what is inside it. Default false. */
  recompute?: boolean;
}

/** Options of {@link TransformerLM.loss}. */
export interface LanguageModelLossOptions {
  /** Targets that do not count. Default -100. */
  ignoreIndex?: number;
  /** Default 0. */
  labelSmoothing?: number;
  /** Weight of the squared log of the softmax's denominator. Default 0. */
  zLoss?: number;
  /** Tokens whose logits exist at a time, computed again in backward. Default: all at once. */
  chunk?: number;
  /** i32 [B, N]: tokens see only those with the same id, as documents packed into one row do. */
  segmentIds?: Tensor | null;
}

const configNames = [
  'vocabSize',
  'dModel',
  'layers',
  'heads',
  'kvHeads',
  'feedForward',
  'activation',
  'norm',
  'eps',
  'position',
  'rotaryBase',
  'maxLength',
  'tiedEmbeddings',
  'dropout',
  'bias',
  'qkNorm',
  'axial',
  'reversible',
  'feedForwardChunk',
  'mechanism',
];
const positionKinds = ['rotary', 'learned', 'sinusoidal', 'axial', 'none'] as const;

/**
 * A decoder-only Transformer language model, norms first. Its layers are {@link EncoderLayer}s around
 * causal mechanisms, named as in PyTorch: `layers.0.self_attn.in_proj_weight`.
 *
 * @example
 * const model = new TransformerLM({ vocabSize: 256, dModel: 64, layers: 2, heads: 4 });
 * const ids = tensor([[72, 101, 108]], { dtype: 'i32' });
 * model.forward(ids).shape; // [1, 3, 256]
 */
export class TransformerLM extends Module {
  static override readonly stateNames = { stack: '' };
  readonly embedding: Embedding;
  readonly positions: TablePositions | null;
  readonly embeddingDropout: Dropout;
  readonly stack: Encoder;
  readonly lmHead: Linear | null;
  /** Everything needed to make such a model again. */
  readonly config: TransformerLMConfig;

  constructor(options: TransformerLMOptions) {
    super();
    checkOptions('TransformerLM', options, [...configNames, 'recompute', ...layerOptionNames]);
    const mechanisms = makeMechanisms(options);
    this.config = completeConfig(options, mechanisms);
    const { vocabSize, dModel, layers, heads, dropout, tiedEmbeddings } = this.config;
    const { reversible, feedForwardChunk } = this.config;
    const { position, rotaryBase, kvHeads, feedForward, activation, norm, eps, bias, qkNorm } =
      this.config;
    const made = layerOptions(options);
    this.embedding = new Embedding(vocabSize, dModel, { ...made, std: 0.02 });
    this.positions = makePositions(this.config, made);
    this.embeddingDropout = new Dropout(dropout, made.generator && { generator: made.generator });
    this.stack = new Encoder({
      ...made,
      ...{ dModel, layers, heads, kvHeads, feedForward, activation, norm, eps },
      ...{ dropout, bias, qkNorm, normFirst: true, reversible, feedForwardChunk },
      mechanism: (layer) => mechanisms[layer] as Mechanism,
      rotary:
        position === 'rotary' ? new RotaryPositions(dModel / heads, { base: rotaryBase }) : null,
      recompute: options.recompute ?? false,
    });
    this.lmHead = tiedEmbeddings ? null : new Linear(dModel, vocabSize, { ...made, bias: false });
    this.#initialise(made);
  }

  /** Whether `step` may be recorded and replayed: as its mechanisms say. */
  get capturable(): boolean {
    return this.stack.layers.every(({ selfAttn }) => selfAttn.mechanism.capturable);
  }

  /** A new model of a configuration. */
  static fromConfig(config: TransformerLMConfig, options: LayerOptions = {}): TransformerLM {
    checkOptions('TransformerLM.fromConfig', options, layerOptionNames);
    return new TransformerLM({ ...config, ...options });
  }

  /**
   * Logits of the next token at every position.
   *
   * @param ids i32 [B, N]
   * @param context.segmentIds i32 [B, N]: tokens see only those with the same id
   * @returns [B, N, vocabSize]
   */
  forward(ids: Tensor, context: Pick<LayerContext, 'segmentIds'> = {}): Tensor {
    return this.#logits(this.hidden(ids, context));
  }

  /** What the output layer reads: [B, N, dModel]. */
  hidden(ids: Tensor, context: Pick<LayerContext, 'segmentIds'> = {}): Tensor {
    return this.stack.forward(this.#embed(ids), context);
  }

  /**
   * Mean cross entropy in nats per target, with the mechanisms' auxiliary losses added.
   *
   * @param ids i32 [B, N]
   * @param targets i32 [B, N]: the token that follows each
   */
  loss(ids: Tensor, targets: Tensor, options: LanguageModelLossOptions = {}): Tensor {
    checkOptions('TransformerLM.loss', options, [
      'ignoreIndex',
      'labelSmoothing',
      'zLoss',
      'chunk',
      'segmentIds',
    ]);
    const { chunk, segmentIds = null, ...entropy } = options;
    const rows = reshape(this.hidden(ids, { segmentIds }), [-1, this.config.dModel]);
    const flat = reshape(targets, [-1]);
    let total =
      chunk === undefined || chunk >= flat.size
        ? crossEntropy(this.#logits(rows), flat, entropy)
        : this.#chunkedLoss(rows, flat, chunk, entropy);
    const extra = this.stack.auxiliaryLoss();
    if (extra) total = add(total, extra);
    return total;
  }

  /** Whether decoding states can lie in pages: as its mechanisms say. */
  get paged(): boolean {
    return this.stack.layers.every(({ selfAttn }) => selfAttn.mechanism.paged);
  }

  /**
   * Empty decoding state for `batch` sequences of at most `capacity` tokens.
   *
   * @param options.pages where keys and values lie, shared with other states. Default: memory of its own, for
   *   the whole capacity
   * @throws UnsupportedError for pages where a mechanism's `paged` is false
   */
  initState(
    batch: number,
    capacity: number,
    options: { pages?: KvPages | null } = {},
  ): DecodingState {
    checkOptions('TransformerLM.initState', options, ['pages']);
    checkSizes('TransformerLM.initState', { batch, capacity });
    if (this.positions && capacity > this.positions.maxLength) {
      throw new ArgumentError(
        'ERR_VALUE',
        'TransformerLM.initState',
        'capacity',
        show(capacity),
        `The model has ${this.positions.maxLength} positions`,
      );
    }
    return this.stack.initState(batch, capacity, options.pages);
  }

  /**
   * Takes further tokens and gives the logits after each. Nothing is recorded.
   *
   * @param ids i32 [B, T]: one token of each sequence, or a prompt
   * @returns [B, T, vocabSize]
   * @throws ArgumentError when the state has no room for them
   */
  step(ids: Tensor, state: DecodingState): Tensor {
    checkInstance('TransformerLM.step', 'state', state, DecodingState);
    state.reserve('TransformerLM.step', ids);
    return tidy(() =>
      noGrad(() => {
        const count = ids.dim(1);
        const at = this.positions && state.upcoming(count);
        const logits = this.#logits(this.stack.step(this.#embed(ids, at), state));
        state.advance(count);
        return logits;
      }),
    );
  }

  /**
   * Floating-point operations per token of sequences of `length` tokens, counted from shapes: matrix
   * products and mechanisms, a multiply-add counting two, recomputation not counted.
   *
   * @param options.training forward and backward (three times forward, the default) or forward alone
   */
  flopsPerToken(length: number, options: { training?: boolean } = {}): number {
    checkOptions('TransformerLM.flopsPerToken', options, ['training']);
    checkSizes('TransformerLM.flopsPerToken', { length });
    const { training = true } = options;
    const { vocabSize, dModel } = this.config;
    let forward = 2 * vocabSize * dModel;
    for (const { selfAttn, feedForward } of this.stack.layers) {
      forward += 2 * (selfAttn.inProjWeight.size + selfAttn.outProj.weight.size);
      forward += 2 * (feedForward.linear1.weight.size + feedForward.linear2.weight.size);
      const { heads, headDim: dim } = selfAttn;
      const shape = { batch: 1, heads, keyDim: dim, valueDim: dim };
      forward += selfAttn.mechanism.flops(length, length, shape) / length;
    }
    return training ? 3 * forward : forward;
  }

  #embed(ids: Tensor, at?: Tensor | null): Tensor {
    const x = this.embedding.forward(ids);
    return this.embeddingDropout.forward(
      this.positions ? this.positions.forward(x, at ?? undefined) : x,
    );
  }

  #logits(hidden: Tensor): Tensor {
    return this.lmHead ? this.lmHead.forward(hidden) : linear(hidden, this.embedding.weight);
  }

  #chunkedLoss(
    rows: Tensor,
    targets: Tensor,
    chunk: number,
    entropy: Omit<LanguageModelLossOptions, 'chunk'>,
  ): Tensor {
    const { ignoreIndex = -100 } = entropy;
    const part = (hidden: Tensor, ids?: Tensor) =>
      crossEntropy(this.#logits(hidden), ids as Tensor, { ...entropy, reduction: 'sum' });
    const parts = chunked('TransformerLM.loss', chunk, part, rows, [targets]);
    const loss = parts.reduce((total, one) => add(total, one));
    const counted = noGrad(() => maximum(sum(notEqual(targets, ignoreIndex)), 1).to(loss.dtype));
    return div(loss, counted);
  }

  /** Normal values of deviation 0.02, smaller before each residual sum (Radford et al. 2019). */
  #initialise(made: LayerOptions): void {
    const generator = made.generator && { generator: made.generator };
    const residual = 0.02 / Math.sqrt(2 * this.config.layers);
    for (const [name, p] of this.namedParameters()) {
      if (p.rank === 1) {
        if (name.endsWith('bias')) initialise.constant(p, 0);
      } else if (/(out_proj|linear2)\.weight$/.test(name)) {
        initialise.normal(p, { ...generator, std: residual });
      } else initialise.normal(p, { ...generator, std: 0.02 });
    }
  }
}

function makePositions(config: TransformerLMConfig, made: LayerOptions): TablePositions | null {
  const { position, maxLength, dModel, axial } = config;
  if (position === 'learned') return new LearnedPositions(maxLength, dModel, made);
  if (position === 'sinusoidal') return new SinusoidalPositions(maxLength, dModel, made);
  if (position !== 'axial' || !axial) return null;
  return new AxialPositions(axial.shape, dModel, {
    ...made,
    ...(axial.dims && { dims: axial.dims }),
  });
}

function makeMechanisms(options: TransformerLMOptions): Mechanism[] {
  const { layers, mechanism, generator } = options;
  checkSizes('TransformerLM', { layers });
  const refuse = (value: string, remedy: string) =>
    new ArgumentError('ERR_OPTION', 'TransformerLM', 'mechanism', value, remedy);
  if (Array.isArray(mechanism) && mechanism.length !== layers)
    throw refuse(`a list of ${mechanism.length}`, `Give one, or one for each of ${layers} layers`);
  const made = Array.from({ length: layers }, (_, i) => {
    if (mechanism === undefined) return new SoftmaxAttention({ causal: true });
    if (typeof mechanism === 'function') return mechanism(i);
    const config = Array.isArray(mechanism) ? mechanism[i] : mechanism;
    return mechanismFrom(config as MechanismConfig, generator && { generator });
  });
  for (const one of made) {
    checkInstance('TransformerLM', 'mechanism', one, Mechanism);
    const { name, causality } = one;
    if (causality !== 'causal')
      throw refuse(
        `${name}, which is ${causality}`,
        'A language model needs a causal one, for example new SoftmaxAttention({ causal: true })',
      );
  }
  return made;
}

function completeConfig(
  options: TransformerLMOptions,
  mechanisms: readonly Mechanism[],
): TransformerLMConfig {
  const { vocabSize, dModel, layers, heads, kvHeads = heads, activation = 'swiglu' } = options;
  const { norm = 'rms', eps = 1e-5, position = 'rotary', rotaryBase = 10000 } = options;
  const { tiedEmbeddings = true, dropout = 0, bias = false, qkNorm = false } = options;
  const { axial = null, reversible = false, feedForwardChunk = null } = options;
  const operator = 'TransformerLM';
  if ((position === 'axial') !== (axial !== null)) {
    const remedy = "Give the grid together with position: 'axial', as in { shape: [32, 64] }";
    throw new ArgumentError('ERR_OPTION', operator, 'axial', show(axial), remedy);
  }
  const grid = axial?.shape.reduce((n, side) => n * side, 1);
  const { maxLength = grid ?? 2048 } = options;
  if (grid !== undefined && maxLength > grid) {
    const remedy = `The grid of axial positions holds ${grid}`;
    throw new ArgumentError('ERR_OPTION', operator, 'maxLength', show(maxLength), remedy);
  }
  checkChoice(operator, 'activation', activation, feedForwardActivations);
  checkChoice(operator, 'norm', norm, normKinds);
  checkChoice(operator, 'position', position, positionKinds);
  checkProbability(operator, 'dropout', dropout);
  checkNumbers(operator, { eps }, 0);
  checkNumbers(operator, { rotaryBase });
  const { recompute } = options;
  checkFlags(operator, { tiedEmbeddings, bias, qkNorm, reversible, recompute });
  const gated = isGated(activation);
  const usual = gated ? 8 * Math.ceil(dModel / 3) : 4 * dModel;
  const { feedForward = usual } = options;
  checkSizes(operator, { vocabSize, dModel, heads, kvHeads, feedForward, maxLength });
  if (dModel % heads !== 0) {
    const remedy = `It must divide dModel, ${dModel}`;
    throw new ArgumentError('ERR_OPTION', operator, 'heads', show(heads), remedy);
  }
  const configs = mechanisms.map((m) => m.config());
  const alike = configs.every((c) => JSON.stringify(c) === JSON.stringify(configs[0]));
  return {
    ...{ vocabSize, dModel, layers, heads, kvHeads, feedForward, activation, norm, eps, position },
    ...{ rotaryBase, axial, maxLength, tiedEmbeddings, dropout, bias, qkNorm },
    ...{ reversible, feedForwardChunk },
    mechanism: alike ? (configs[0] as MechanismConfig) : configs,
  };
}
