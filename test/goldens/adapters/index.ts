import type { Adapter } from '../adapter.js';
import { activations } from './activations.js';
import { annotatedSeq2seq } from './annotated.js';
import { beamSearches } from './beam-search.js';
import { blockSparseAttention } from './block-sparse.js';
import { embeddings } from './embedding.js';
import { dotProductAttention, exactAttention } from './exact-attention.js';
import { gpt2Block, gpt2LanguageModel } from './gpt2.js';
import { decoderLayer, encoderLayer, multiHeadAttention } from './layers.js';
import { losses } from './losses.js';
import { norms } from './norms.js';
import { optimizing } from './optimizers.js';
import { positions } from './positions.js';
import { lucidrainsLsh, sharedFull, traxLsh } from './reformer.js';
import { reversibleBlocks } from './reversible.js';
import { rotaries } from './rotary.js';
import { routingAttentions, routingKmeans } from './routing.js';
import { seq2seq } from './seq2seq.js';

/** One adapter for each mechanism that the package offers. */
export const adapters: readonly Adapter[] = [
  activations,
  beamSearches,
  blockSparseAttention,
  dotProductAttention,
  embeddings,
  exactAttention,
  annotatedSeq2seq,
  decoderLayer,
  encoderLayer,
  gpt2Block,
  gpt2LanguageModel,
  ...losses,
  multiHeadAttention,
  ...norms,
  ...optimizing,
  positions,
  lucidrainsLsh,
  sharedFull,
  traxLsh,
  reversibleBlocks,
  rotaries,
  routingAttentions,
  routingKmeans,
  seq2seq,
];
