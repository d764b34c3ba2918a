export { DecodingState } from './decoding-state.js';
export { type LoadModuleOptions, loadModule, saveModule } from './files.js';
export {
  type ReversibleBlock,
  type ReversibleBranch,
  type ReversibleResult,
  reversible,
} from './functional/reversible.js';
export {
  type InitialiseOptions,
  initialise,
  type KaimingOptions,
  type XavierOptions,
} from './initialise.js';
export {
  type DecoderContext,
  DecoderLayer,
  type DecoderLayerOptions,
} from './layers/decoder-layer.js';
export { Dropout } from './layers/dropout.js';
export { Embedding, type EmbeddingOptions } from './layers/embedding.js';
export {
  EncoderLayer,
  type EncoderLayerOptions,
  type LayerContext,
} from './layers/encoder-layer.js';
export {
  FeedForward,
  type FeedForwardActivation,
  type FeedForwardOptions,
} from './layers/feed-forward.js';
export { Linear, type LinearLayerOptions } from './layers/linear.js';
export {
  type AttendOptions,
  type KeyValue,
  MultiHeadAttention,
  type MultiHeadAttentionOptions,
} from './layers/multi-head-attention.js';
export {
  LayerNorm,
  type LayerNormLayerOptions,
  Norm,
  type NormalisedSum,
  type NormKind,
  RMSNorm,
  type RMSNormLayerOptions,
} from './layers/norm.js';
export type { LayerOptions } from './layers/options.js';
export {
  AxialPositions,
  type AxialPositionsOptions,
  LearnedPositions,
  SinusoidalPositions,
  TablePositions,
} from './layers/positions.js';
export { RotaryPositions, type RotaryPositionsOptions } from './layers/rotary.js';
export { Decoder, type DecoderOptions, Encoder, type EncoderOptions } from './layers/stacks.js';
export {
  type Causality,
  type FlopShape,
  Mechanism,
  type MechanismConfig,
  type MechanismContext,
  type MechanismState,
  type StateShape,
} from './mechanism.js';
export { LshAttention, type LshAttentionOptions } from './mechanisms/lsh.js';
export {
  type HeadGroup,
  MixedAttention,
  type MixedAttentionOptions,
} from './mechanisms/mixed.js';
export { type MechanismOptions, mechanismFrom, registerMechanism } from './mechanisms/registry.js';
export { RoutingAttention, type RoutingAttentionOptions } from './mechanisms/routing.js';
export { SoftmaxAttention, type SoftmaxAttentionOptions } from './mechanisms/softmax.js';
export {
  type LoadResult,
  type LoadStateOptions,
  Module,
  type StateDict,
} from './module.js';
export { buffer, type Parameter, parameter } from './parameter.js';
