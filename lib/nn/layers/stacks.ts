import type { KvPages } from '../../attention/index.js';
import { checkpoint } from '../../core/autograd/index.js';
import { asTensor } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import {
  checkFlags,
  checkFunction,
  checkInstance,
  checkObject,
  checkOptions,
} from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import { add, mul } from '../../dense/index.js';
import { DecodingState } from '../decoding-state.js';
import { reversible } from '../functional/reversible.js';
import type { Mechanism } from '../mechanism.js';
import { Module } from '../module.js';
import { type DecoderContext, DecoderLayer, type DecoderLayerOptions } from './decoder-layer.js';
import {
  EncoderLayer,
  type EncoderLayerOptions,
  type LayerContext,
  transformerLayerOptionNames,
} from './encoder-layer.js';
import type { KeyValue } from './multi-head-attention.js';
import { makeNorm, type Norm } from './norm.js';
import { checkSizes, layerOptions } from './options.js';
import { normalised, type Stream, settled } from './stream.js';

/** Options of {@link Encoder}. */
export interface EncoderOptions extends Omit<EncoderLayerOptions, 'mechanism'> {
  layers: number;
  /** A norm after the last layer. Default: where `normFirst`. */
  finalNorm?: boolean;
  /** Makes the mechanism of a layer. */
  mechanism?: (layer: number) => Mechanism;
  /** Computes each layer again during backward instead of keeping what is inside it. Default false. */
  recompute?: boolean;
  /**
   * Makes the layers reversible (Gomez et al. 2017, Kitaev et al. 2020): two streams of width `dModel`
   * begin as x, attention reads the second and adds to the first, the feed-forward part the other way
   * round, and their mean is what comes out. Backward restores what went into each layer, so that memory
   * does not grow with depth. Needs `normFirst`. Default false.
   */
  reversible?: boolean;
}

const stackOptionNames = [...transformerLayerOptionNames, 'layers', 'finalNorm', 'recompute'];

/** The final norm of a stack, and the options of its layers. */
function stackParts(operator: string, options: EncoderOptions) {
  checkSizes(operator, { layers: options.layers });
  const { layers: count, finalNorm, recompute = false, mechanism, ...layer } = options;
  const { norm = 'layer', eps = 1e-5, bias = true, normFirst = false, dModel } = layer;
  checkFlags(operator, { finalNorm, recompute, normFirst });
  if (mechanism !== undefined) checkFunction(operator, mechanism, 'mechanism');
  const final =
    (finalNorm ?? normFirst) ? makeNorm(norm, dModel, { ...layerOptions(layer), eps, bias }) : null;
  const indices = Array.from({ length: count }, (_, i) => i);
  return { indices, layer, mechanism, final, recompute };
}

/** A stream after a layer, and what the layer adds to the loss. */
interface Advanced extends Stream {
  readonly loss?: Tensor | null;
}

/** Runs one layer, inside `checkpoint` when asked to. */
function through(
  recompute: boolean,
  stream: Stream,
  others: readonly Tensor[],
  advance: (stream: Stream, others: readonly Tensor[]) => Advanced,
): Advanced {
  if (!recompute) return advance(stream, others);
  const inputs = stream.delta ? [stream.x, stream.delta] : [stream.x];
  let [summed, adds] = [false, false];
  const found = [
    ...checkpoint(
      (...given: Tensor[]) => {
        const [first, second] = given as [Tensor, Tensor];
        const rest = given.slice(inputs.length);
        const out = advance({ x: first, delta: inputs.length > 1 ? second : null }, rest);
        summed = out.delta === null;
        adds = out.loss != null;
        return [out.x, out.delta, out.loss].filter((t) => t != null);
      },
      [...inputs, ...others],
    ),
  ];
  const loss = adds ? (found.pop() as Tensor) : null;
  return { x: found[0] as Tensor, delta: summed ? null : (found[1] as Tensor), loss };
}

function finished(norm: Norm | null, stream: Stream): Tensor {
  return norm ? normalised(norm, stream).y : settled(stream);
}

/**
 * A stack of {@link EncoderLayer}s: PyTorch's `TransformerEncoder`.
 *
 * @example
 * const encoder = new Encoder({ layers: 2, dModel: 64, heads: 4 });
 */
export class Encoder extends Module {
  readonly layers: EncoderLayer[];
  readonly norm: Norm | null;
  readonly recompute: boolean;
  readonly reversible: boolean;
  #loss: Tensor | null = null;

  constructor(options: EncoderOptions) {
    super();
    checkOptions('Encoder', options, [...stackOptionNames, 'reversible']);
    const { reversible: twoStreams = false, ...rest } = options;
    checkFlags('Encoder', { reversible: twoStreams });
    const { indices, layer, mechanism, final, recompute } = stackParts('Encoder', rest);
    if (twoStreams && (recompute || !layer.normFirst)) {
      const value = recompute ? 'true together with recompute' : 'true without normFirst';
      const remedy = recompute
        ? 'Choose one of them: reversible layers are computed again anyway'
        : 'Set normFirst: the sums of a reversible layer are not normalised';
      throw new ArgumentError('ERR_OPTION', 'Encoder', 'reversible', value, remedy);
    }
    this.reversible = twoStreams;
    this.layers = indices.map(
      (i) => new EncoderLayer({ ...layer, ...(mechanism && { mechanism: mechanism(i) }) }),
    );
    this.norm = final;
    this.recompute = recompute;
  }

  /** @param x [B, N, dModel] */
  forward(x: Tensor, context: LayerContext = {}): Tensor {
    asTensor('Encoder', 'x', x);
    checkObject('Encoder', 'context', context, '{ lengths }, say');
    if (this.reversible) return this.#reversibly(x, context);
    const { lengths, segmentIds } = context;
    let stream: Stream = { x, delta: null };
    this.#loss = null;
    const others = [lengths, segmentIds].filter((t) => t != null);
    for (const layer of this.layers) {
      const { loss, ...advanced } = through(this.recompute, stream, others, (at, given) => {
        const rest = [...given];
        const out = layer.advance(at, {
          lengths: lengths ? (rest.shift() as Tensor) : null,
          segmentIds: segmentIds ? (rest.shift() as Tensor) : null,
        });
        return { ...out, loss: layer.auxiliaryLoss() };
      });
      stream = advanced;
      if (loss) this.#loss = this.#loss ? add(this.#loss, loss) : loss;
    }
    return finished(this.norm, stream);
  }

  /**
   * Takes the sum of what the layers' mechanisms add to the loss of the last forward call in training;
   * null where they add nothing.
   */
  auxiliaryLoss(): Tensor | null {
    const loss = this.#loss;
    this.#loss = null;
    return loss;
  }

  #reversibly(x: Tensor, context: LayerContext): Tensor {
    const blocks = this.layers.map((layer) =>
      layer.block((y) => layer.selfAttn.forward(y, context)),
    );
    const { y1, y2, loss } = reversible(blocks, x, x);
    this.#loss = loss;
    return this.#joined(y1, y2);
  }

  #joined(y1: Tensor, y2: Tensor): Tensor {
    return finished(this.norm, { x: mul(add(y1, y2), 0.5), delta: null });
  }

  /** Empty decoding state, for stacks of causal layers; keys and values lie in `pages` if given. */
  initState(batch: number, capacity: number, pages: KvPages | null = null): DecodingState {
    const { device } = (this.layers[0] as EncoderLayer).selfAttn.inProjWeight;
    const layers = this.layers.map((layer) => layer.initState(batch, capacity, pages));
    return new DecodingState(layers, batch, capacity, device);
  }

  /** T further tokens [B, T, dModel]; the caller advances the state's positions. */
  step(x: Tensor, state: DecodingState): Tensor {
    checkInstance('Encoder.step', 'state', state, DecodingState);
    asTensor('Encoder.step', 'x', x);
    const at = state.upcoming(x.dim(1));
    if (this.reversible) {
      const blocks = this.layers.map((layer, i) =>
        layer.block((y) => layer.selfAttn.step(y, state.layer(i), at)),
      );
      const { y1, y2 } = reversible(blocks, x, x);
      return this.#joined(y1, y2);
    }
    let stream: Stream = { x, delta: null };
    for (const [i, layer] of this.layers.entries()) {
      stream = layer.step(stream, state.layer(i), at);
    }
    return finished(this.norm, stream);
  }
}

/** Options of {@link Decoder}. */
export interface DecoderOptions
  extends EncoderOptions,
    Omit<DecoderLayerOptions, 'mechanism' | 'crossMechanism'> {
  /** Makes what attends to the memory in a layer. */
  crossMechanism?: (layer: number) => Mechanism;
}

/**
 * A stack of {@link DecoderLayer}s: PyTorch's `TransformerDecoder`.
 *
 * @example
 * const decoder = new Decoder({ layers: 2, dModel: 64, heads: 4 });
 */
export class Decoder extends Module {
  readonly layers: DecoderLayer[];
  readonly norm: Norm | null;
  readonly recompute: boolean;

  constructor(options: DecoderOptions) {
    super();
    checkOptions('Decoder', options, [...stackOptionNames, 'crossMechanism']);
    const { crossMechanism, ...rest } = options;
    const { indices, layer, mechanism, final, recompute } = stackParts('Decoder', rest);
    this.layers = indices.map(
      (i) =>
        new DecoderLayer({
          ...layer,
          ...(mechanism && { mechanism: mechanism(i) }),
          ...(crossMechanism && { crossMechanism: crossMechanism(i) }),
        }),
    );
    this.norm = final;
    this.recompute = recompute;
  }

  /**
   * @param x [B, N, dModel]
   * @param memory [B, M, dModel]
   */
  forward(x: Tensor, memory: Tensor, context: DecoderContext = {}): Tensor {
    asTensor('Decoder', 'x', x);
    asTensor('Decoder', 'memory', memory);
    checkObject('Decoder', 'context', context, '{ lengths }, say');
    const { lengths, memoryLengths } = context;
    const others = [memory, lengths, memoryLengths].filter((t) => t != null) as Tensor[];
    let stream: Stream = { x, delta: null };
    for (const layer of this.layers) {
      stream = through(this.recompute, stream, others, (at, given) => {
        const rest = [...given];
        const source = rest.shift() as Tensor;
        return layer.advance(at, source, {
          lengths: lengths ? (rest.shift() as Tensor) : null,
          memoryLengths: memoryLengths ? (rest.shift() as Tensor) : null,
        });
      });
    }
    return finished(this.norm, stream);
  }

  /**
   * Empty decoding state over a memory, whose keys and values are projected once.
   *
   * @param batch rows to decode: as many as the memory has, or several per row of it (beams)
   */
  initState(
    memory: Tensor,
    memoryLengths: Tensor | null,
    batch: number,
    capacity: number,
  ): DecodingState {
    const layers = this.layers.map((layer) => layer.initState(batch, capacity));
    const memories = this.layers.map((layer) => layer.multiheadAttn.keyValues(memory));
    return new DecodingState(layers, batch, capacity, memory.device, memories, memoryLengths);
  }

  /** T further tokens [B, T, dModel]; the caller advances the state's positions. */
  step(x: Tensor, state: DecodingState): Tensor {
    checkInstance('Decoder.step', 'state', state, DecodingState);
    asTensor('Decoder.step', 'x', x);
    let stream: Stream = { x, delta: null };
    const at = state.upcoming(x.dim(1));
    for (const [i, layer] of this.layers.entries()) {
      const memory = state.memories[i] as KeyValue;
      stream = layer.step(stream, memory, state.memoryLengths, state.layer(i), at);
    }
    return finished(this.norm, stream);
  }
}
