import type { Adapter } from '../adapter.js';
import { activations } from './activations.js';
import { beamSearches } from './beam-search.js';
import { embeddings } from './embedding.js';
import { dotProductAttention, exactAttention } from './exact-attention.js';
import { losses } from './losses.js';
import { norms } from './norms.js';
import { optimizing } from './optimizers.js';
import { positions } from './positions.js';
import { rotaries } from './rotary.js';

/** One adapter for each mechanism that the package offers. */
export const adapters: readonly Adapter[] = [
  activations,
  beamSearches,
  dotProductAttention,
  embeddings,
  exactAttention,
  ...losses,
  ...norms,
  ...optimizing,
  positions,
  rotaries,
];
