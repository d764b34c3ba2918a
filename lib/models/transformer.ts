import { noGrad } from '../core/autograd/index.js';
import { asTensor, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkFlags, checkInstance, checkNumbers, checkOptions } from '../core/options.js';
import { tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { reshape } from '../core/views.js';
import { crossEntropy, linear, mul, notEqual, sum } from '../dense/index.js';
import { DecodingState } from '../nn/decoding-state.js';
import { initialise } from '../nn/initialise.js';
import { Dropout } from '../nn/layers/dropout.js';
import { Embedding } from '../nn/layers/embedding.js';
import { type FeedForwardActivation, feedForwardActivations } from '../nn/layers/feed-forward.js';
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
import { SinusoidalPositions } from '../nn/layers/positions.js';
import { Decoder, Encoder } from '../nn/layers/stacks.js';
import type { Mechanism } from '../nn/mechanism.js';
import { Module } from '../nn/module.js';

/** Shape of a {@link Transformer}, as JSON. */
export interface TransformerConfig {
  /** Number of tokens, shared by source and target. */
  vocabSize: number;
  /** Default 512. */
  dModel: number;
  /** Default 8. */
  heads: number;
  /** Default 6. */
  encoderLayers: number;
  /** Default 6. */
  decoderLayers: number;
  /** Default 2048. */
  feedForward: number;
  /** Default `relu`. */
  activation: FeedForwardActivation;
  /** Default `layer`. */
  norm: NormKind;
  /** Default 1e-5. */
  eps: number;
  /** Norms inside the residual branches instead of after the sums. Default false, as in the paper. */
  normFirst: boolean;
  /** A norm after each stack. Default: where `normFirst`. */
  finalNorm: boolean;
  /** Default 0.1. */
  dropout: number;
  /** Default 0.1. */
  labelSmoothing: number;
  /** Longest sequence. Default 1024. */
  maxLength: number;
  /** Token of padding: no loss, and no attention to it. Default 0. */
  padId: number;
  /** Whether source, target and output layer share one table, as in the paper. Default true. */
  tiedEmbeddings: boolean;
}

/** Options of {@link Transformer}. */
export interface TransformerOptions
  extends LayerOptions,
    Partial<Omit<TransformerConfig, 'vocabSize'>>,
    Pick<TransformerConfig, 'vocabSize'> {
  /** Makes the mechanism of self-attention in a decoder layer. Default causal softmax attention. */
  mechanism?: (layer: number) => Mechanism;
  /** Computes each layer again during backward instead of keeping what is inside it. Default false. */
  recompute?: boolean;
}

/** Where padding begins, where it is not to be counted from the ids. */
export interface SequenceLengths {
  /** i32 [B]. */
  sourceLengths?: Tensor | null;
  /** i32 [B]. */
  targetLengths?: Tensor | null;
}

const defaults: Omit<TransformerConfig, 'vocabSize' | 'finalNorm'> = {
  dModel: 512,
  heads: 8,
  encoderLayers: 6,
  decoderLayers: 6,
  feedForward: 2048,
  activation: 'relu',
  norm: 'layer',
  eps: 1e-5,
  normFirst: false,
  dropout: 0.1,
  labelSmoothing: 0.1,
  maxLength: 1024,
  padId: 0,
  tiedEmbeddings: true,
};

/** The models of Vaswani et al. 2017, table 3. */
export const transformerPresets = {
  base: {},
  big: { dModel: 1024, heads: 16, feedForward: 4096, dropout: 0.3 },
} as const satisfies Record<string, Partial<TransformerConfig>>;

/**
 * The encoder-decoder Transformer of Vaswani et al. 2017: embeddings scaled by sqrt(dModel), sinusoidal
 * positions, one table for source, target and output. Padding stands at the end of rows.
 *
 * @example
 * const model = new Transformer({ vocabSize: 64, ...transformerPresets.base, encoderLayers: 2 });
 */
export class Transformer extends Module {
  readonly embedding: Embedding | null;
  readonly sourceEmbedding: Embedding | null;
  readonly targetEmbedding: Embedding | null;
  readonly positions: SinusoidalPositions;
  readonly embeddingDropout: Dropout;
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  readonly generator: Linear | null;
  /** Everything needed to make such a model again. */
  readonly config: TransformerConfig;

  constructor(options: TransformerOptions) {
    super();
    checkOptions('Transformer', options, [
      ...['vocabSize', 'finalNorm', 'mechanism', 'recompute'],
      ...Object.keys(defaults),
      ...layerOptionNames,
    ]);
    this.config = completeConfig(options);
    const { vocabSize, dModel, heads, feedForward, activation, norm, eps, normFirst } = this.config;
    const { finalNorm, dropout, maxLength, tiedEmbeddings } = this.config;
    const made = layerOptions(options);
    const table = () => new Embedding(vocabSize, dModel, { ...made, std: dModel ** -0.5 });
    this.embedding = tiedEmbeddings ? table() : null;
    this.sourceEmbedding = tiedEmbeddings ? null : table();
    this.targetEmbedding = tiedEmbeddings ? null : table();
    this.positions = new SinusoidalPositions(maxLength, dModel, made);
    this.embeddingDropout = new Dropout(dropout, made.generator && { generator: made.generator });
    const { mechanism, recompute = false } = options;
    const shared = {
      ...made,
      ...{ dModel, heads, feedForward, activation, norm, eps, normFirst, finalNorm, dropout },
      recompute,
    };
    this.encoder = new Encoder({ ...shared, layers: this.config.encoderLayers });
    this.decoder = new Decoder({
      ...shared,
      layers: this.config.decoderLayers,
      ...(mechanism && { mechanism }),
    });
    this.generator = tiedEmbeddings
      ? null
      : new Linear(dModel, vocabSize, { ...made, bias: false });
    this.#initialise(made);
  }

  /** Whether `step` may be recorded and replayed: as the decoder's mechanisms say. */
  get capturable(): boolean {
    return this.decoder.layers.every(({ selfAttn }) => selfAttn.mechanism.capturable);
  }

  /** A new model of a configuration. */
  static fromConfig(config: TransformerConfig, options: LayerOptions = {}): Transformer {
    checkOptions('Transformer.fromConfig', options, layerOptionNames);
    return new Transformer({ ...config, ...options });
  }

  /**
   * Logits of the token that follows each target position.
   *
   * @param source i32 [B, M]
   * @param target i32 [B, N]
   * @param lengths default: the tokens other than `padId` are counted
   * @returns [B, N, vocabSize]
   */
  forward(source: Tensor, target: Tensor, lengths: SequenceLengths = {}): Tensor {
    return this.logits(this.hidden(source, target, lengths));
  }

  /** What the output layer reads: [B, N, dModel]. */
  hidden(source: Tensor, target: Tensor, lengths: SequenceLengths = {}): Tensor {
    checkOptions('Transformer', lengths, ['sourceLengths', 'targetLengths']);
    const memoryLengths = lengths.sourceLengths ?? this.lengthsOf(source);
    const memory = this.encode(source, memoryLengths);
    const targetLengths = lengths.targetLengths ?? this.lengthsOf(target);
    return this.decode(target, memory, memoryLengths, targetLengths);
  }

  /**
   * The encoder alone.
   *
   * @param source i32 [B, M]
   * @returns [B, M, dModel]
   */
  encode(source: Tensor, lengths: Tensor | null = null): Tensor {
    const table = (this.embedding ?? this.sourceEmbedding) as Embedding;
    return this.encoder.forward(this.#embed(source, table), { lengths });
  }

  /** The decoder alone: [B, N, dModel] of targets and a memory. */
  decode(
    target: Tensor,
    memory: Tensor,
    memoryLengths: Tensor | null = null,
    lengths: Tensor | null = null,
  ): Tensor {
    const x = this.#embed(target, (this.embedding ?? this.targetEmbedding) as Embedding);
    return this.decoder.forward(x, memory, { lengths, memoryLengths });
  }

  /** Logits [..., vocabSize] of what the decoder gave. */
  logits(hidden: Tensor): Tensor {
    if (this.generator) return this.generator.forward(hidden);
    return linear(hidden, (this.embedding as Embedding).weight);
  }

  /**
   * Mean label-smoothed cross entropy in nats per target that is no padding.
   *
   * @param source i32 [B, M]
   * @param target i32 [B, N], beginning with the start token
   * @param next i32 [B, N]: the token that follows each
   */
  loss(source: Tensor, target: Tensor, next: Tensor, lengths: SequenceLengths = {}): Tensor {
    const { dModel, padId, labelSmoothing } = this.config;
    const rows = reshape(this.hidden(source, target, lengths), [-1, dModel]);
    return crossEntropy(this.logits(rows), reshape(next, [-1]), {
      ignoreIndex: padId,
      labelSmoothing,
    });
  }

  /**
   * Encodes sources and makes an empty decoding state over them. Nothing is recorded.
   *
   * @param options.beams rows decoded for each source, side by side. Default 1.
   * @param options.capacity most tokens of a target. Default `maxLength`.
   */
  initState(
    source: Tensor,
    options: { beams?: number; capacity?: number; sourceLengths?: Tensor | null } = {},
  ): DecodingState {
    const operator = 'Transformer.initState';
    checkOptions(operator, options, ['beams', 'capacity', 'sourceLengths']);
    const { maxLength } = this.config;
    const { beams = 1, capacity = maxLength } = options;
    checkSizes(operator, { beams, capacity });
    if (capacity > maxLength) {
      const remedy = `The model has ${maxLength} positions`;
      throw new ArgumentError('ERR_VALUE', operator, 'capacity', String(capacity), remedy);
    }
    return tidy(() =>
      noGrad(() => {
        const lengths = options.sourceLengths ?? this.lengthsOf(source);
        const memory = this.encode(source, lengths);
        return this.decoder.initState(memory, lengths, source.dim(0) * beams, capacity);
      }),
    );
  }

  /**
   * Takes further target tokens and gives the logits after each. Nothing is recorded.
   *
   * @param ids i32 [rows, T]
   * @returns [rows, T, vocabSize]
   * @throws ArgumentError when the state has no room for them
   */
  step(ids: Tensor, state: DecodingState): Tensor {
    checkInstance('Transformer.step', 'state', state, DecodingState);
    state.reserve('Transformer.step', ids);
    return tidy(() =>
      noGrad(() => {
        const count = ids.dim(1);
        const at = state.upcoming(count);
        const table = (this.embedding ?? this.targetEmbedding) as Embedding;
        const logits = this.logits(this.decoder.step(this.#embed(ids, table, at), state));
        state.advance(count);
        return logits;
      }),
    );
  }

  /** i32 [B]: how many tokens of each row are no padding. */
  lengthsOf(ids: Tensor): Tensor {
    asTensor('Transformer', 'ids', ids);
    return noGrad(() => sum(notEqual(ids, this.config.padId), -1));
  }

  #embed(ids: Tensor, table: Embedding, at?: Tensor): Tensor {
    const scaled = mul(table.forward(ids), Math.sqrt(this.config.dModel));
    return this.embeddingDropout.forward(this.positions.forward(scaled, at));
  }

  /** Xavier's values for the layers, deviation 1 / sqrt(dModel) for the tables. */
  #initialise(made: LayerOptions): void {
    const generator = made.generator && { generator: made.generator };
    for (const stack of [this.encoder, this.decoder]) {
      for (const [name, p] of stack.namedParameters()) {
        if (p.rank === 2) initialise.xavierUniform(p, generator);
        else if (name.endsWith('bias')) initialise.constant(p, 0);
      }
    }
  }
}

function completeConfig(options: TransformerOptions): TransformerConfig {
  const given = Object.fromEntries(
    Object.entries(options).filter(([name, value]) => name in defaults && value !== undefined),
  ) as Partial<typeof defaults>;
  const config = { ...defaults, ...given, vocabSize: options.vocabSize };
  const operator = 'Transformer';
  const { vocabSize, dModel, heads, encoderLayers, decoderLayers, feedForward, maxLength } = config;
  checkSizes(operator, { vocabSize, dModel, heads, encoderLayers, decoderLayers, feedForward });
  checkSizes(operator, { maxLength });
  checkChoice(operator, 'activation', config.activation, feedForwardActivations);
  checkChoice(operator, 'norm', config.norm, normKinds);
  checkProbability(operator, 'dropout', config.dropout);
  checkProbability(operator, 'labelSmoothing', config.labelSmoothing);
  checkNumbers(operator, { eps: config.eps }, 0);
  if (!Number.isSafeInteger(config.padId)) {
    const remedy = 'Give the id of a token, or -1 for none';
    throw new ArgumentError('ERR_OPTION', operator, 'padId', show(config.padId), remedy);
  }
  const { normFirst, tiedEmbeddings } = config;
  const { finalNorm, recompute } = options;
  checkFlags(operator, { normFirst, tiedEmbeddings, finalNorm, recompute });
  return { ...config, finalNorm: options.finalNorm ?? config.normFirst };
}
