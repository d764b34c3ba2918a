export { gpt2Name, gpt2Presets, type LoadGpt2Options, loadGpt2 } from './gpt2.js';
export {
  Reformer,
  type ReformerAttention,
  ReformerEncoder,
  type ReformerEncoderOptions,
  type ReformerLayer,
  type ReformerOptions,
  reformerPresets,
} from './reformer.js';
export {
  type RoutingOptions,
  RoutingTransformer,
  type RoutingTransformerOptions,
  routingTransformerPresets,
} from './routing-transformer.js';
export {
  type GreedyOptions,
  greedy,
  stateScorer,
  type TranslateOptions,
  translate,
} from './search.js';
export {
  type SequenceLengths,
  Transformer,
  type TransformerConfig,
  type TransformerOptions,
  transformerPresets,
} from './transformer.js';
export {
  type LanguageModelLossOptions,
  TransformerLM,
  type TransformerLMConfig,
  type TransformerLMOptions,
} from './transformer-lm.js';
