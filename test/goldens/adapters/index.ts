import type { Adapter } from '../adapter.js';
import { beamSearches } from './beam-search.js';
import { losses } from './losses.js';
import { norms } from './norms.js';
import { optimizing } from './optimizers.js';
import { positions } from './positions.js';
import { rotaries } from './rotary.js';

/** One adapter for each mechanism that the package offers. */
export const adapters: readonly Adapter[] = [
  beamSearches,
  ...losses,
  ...norms,
  ...optimizing,
  positions,
  rotaries,
];
