/** The Routing Transformer (Roy, Saffar, Vaswani and Grangier 2021) as a language model. */
import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkObject, checkOptions } from '../core/options.js';
import { checkSizes, type LayerOptions, layerOptionNames } from '../nn/layers/options.js';
import type { MechanismConfig } from '../nn/mechanism.js';
import {
  TransformerLM,
  type TransformerLMConfig,
  type TransformerLMOptions,
} from './transformer-lm.js';

/** Options that make the mechanisms of a Routing Transformer. */
export interface RoutingOptions {
  /** Heads of a routed layer that are routed, the last ones. Default: half of them. */
  routedHeads?: number;
  /** Layers with routed heads, the last ones. Default: all. */
  routedLayers?: number;
  /** Clusters of a routed head. Default: the square root of maxLength, rounded. */
  clusters?: number;
  /** Members of its cluster that a token sees at most. Default: maxLength / clusters, rounded up. */
  window?: number;
  /** Tokens before its own that a token sees in local heads. Default 256. */
  localWindow?: number;
  /** Weight of the commitment loss. Default 1e-4. */
  commitment?: number;
  /** Share of a centroid that an update leaves. Default 0.999. */
  decay?: number;
}

/** Options of {@link RoutingTransformer}: those of {@link TransformerLM} with other defaults, and its attention. */
export interface RoutingTransformerOptions extends TransformerLMOptions, RoutingOptions {}

/**
 * A Routing Transformer language model: beside local heads, some attend among the tokens of their own
 * cluster, whose centroids follow the tokens by a moving average. By default norms are layer norms, the
 * activation is `geglu`, projections have biases, and local heads rotate their queries and keys (positions
 * are relative, as in the paper), while routed ones know no positions.
 *
 * @example
 * const model = new RoutingTransformer({
 *   ...{ vocabSize: 256, dModel: 64, layers: 2, heads: 4, maxLength: 256 },
 *   ...{ routedHeads: 2, clusters: 8, window: 32, localWindow: 32 },
 * });
 * model.forward(zeros([1, 100], { dtype: 'i32' })).shape; // [1, 100, 256]
 */
export class RoutingTransformer extends TransformerLM {
  constructor(options: RoutingTransformerOptions) {
    super(languageModelOptions(options));
  }

  static override fromConfig(
    config: TransformerLMConfig,
    options: LayerOptions = {},
  ): RoutingTransformer {
    checkOptions('RoutingTransformer.fromConfig', options, layerOptionNames);
    return new RoutingTransformer({ ...config, ...options });
  }
}

/**
 * Published configurations (appendix and code of Roy et al. 2021); the vocabularies of the last two are left
 * to the tokenizer.
 */
export const routingTransformerPresets = {
  enwik8: {
    ...{ vocabSize: 256, dModel: 1024, layers: 12, heads: 8, maxLength: 8192 },
    ...{ routedHeads: 4, clusters: 16, window: 512, localWindow: 256 },
  },
  wikitext103: {
    ...{ dModel: 1024, layers: 14, heads: 16, maxLength: 4096, dropout: 0.4 },
    ...{ routedHeads: 8, clusters: 8, window: 512, localWindow: 256 },
  },
  pg19: {
    ...{ dModel: 1032, layers: 22, heads: 8, feedForward: 4096, maxLength: 8192 },
    ...{ routedHeads: 2, routedLayers: 1, clusters: 16, window: 512, localWindow: 256 },
  },
} as const satisfies Record<string, Omit<RoutingTransformerOptions, 'vocabSize'>>;

function languageModelOptions(options: RoutingTransformerOptions): TransformerLMOptions {
  checkObject('RoutingTransformer', 'options', options, '{ vocabSize, dModel, layers, heads }');
  const { routedHeads, routedLayers, clusters, window, localWindow, commitment, decay, ...rest } =
    options;
  const given = { routedHeads, routedLayers, clusters, window, localWindow, commitment, decay };
  const named = Object.entries(given).find(([, value]) => value !== undefined);
  if (rest.mechanism && named) {
    const remedy = 'Leave it out where mechanism says what layers do';
    throw new ArgumentError('ERR_OPTION', 'RoutingTransformer', named[0], show(named[1]), remedy);
  }
  return {
    ...{ norm: 'layer', activation: 'geglu', bias: true, position: 'none' },
    ...rest,
    mechanism: rest.mechanism ?? mechanismsOf(options),
  };
}

function mechanismsOf(options: RoutingTransformerOptions): MechanismConfig[] {
  const { layers, heads, dModel, maxLength = 2048, localWindow = 256, commitment, decay } = options;
  const { routedHeads = Math.ceil(heads / 2), routedLayers = layers } = options;
  const { clusters = Math.max(1, Math.round(Math.sqrt(maxLength))) } = options;
  const { window = Math.ceil(maxLength / clusters) } = options;
  const sizes = { layers, heads, maxLength, routedHeads, routedLayers, clusters, window };
  checkSizes('RoutingTransformer', { ...sizes, localWindow });
  for (const [name, value, most] of [
    ['routedHeads', routedHeads, heads],
    ['routedLayers', routedLayers, layers],
  ] as const) {
    if (value <= most) continue;
    const remedy = `There are ${most} of them`;
    throw new ArgumentError('ERR_OPTION', 'RoutingTransformer', name, show(value), remedy);
  }
  const local = { name: 'softmax', causal: true, window: localWindow, rotary: {} };
  const routing = {
    ...{ name: 'routing', causal: true, heads: routedHeads, dim: dModel / heads, clusters, window },
    ...(commitment !== undefined && { commitment }),
    ...(decay !== undefined && { decay }),
  };
  const groups = [
    { heads: heads - routedHeads, mechanism: local },
    { heads: routedHeads, mechanism: routing },
  ].filter((group) => group.heads > 0);
  const routed = groups.length > 1 ? { name: 'mixed', groups } : routing;
  return Array.from({ length: layers }, (_, i) => (i < layers - routedLayers ? local : routed));
}
