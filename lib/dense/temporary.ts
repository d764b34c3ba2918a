import { isRecording } from '../core/autograd/index.js';
import type { Tensor } from '../core/tensor.js';

/**
 * Disposes intermediate results of a composed backward, unless that backward is being recorded: then they
 * belong to a graph.
 */
export function discard(...temporaries: (Tensor | null)[]): void {
  if (isRecording()) return;
  for (const t of temporaries) t?.dispose();
}

/** Disposes intermediate views of a composition, unless the graph holds them. Only for what no operator saves. */
export function discardViews(...views: Tensor[]): void {
  for (const t of views) if (!t.requiresGrad) t.dispose();
}
