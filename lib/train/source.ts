/** Where batches come from: anything that can be continued exactly. */

import { createHash } from 'node:crypto';
import { CheckpointError } from '../core/errors.js';
import { BatchSampler, type BatchSamplerOptions, type TextBatch } from './text/index.js';

/**
 * An endless supply of batches. What `next` returns must depend on nothing but the source's state,
 * so that a run that resumes sees the batches it would have seen.
 */
export interface BatchSource<B> {
  next(): B;
  /** Where the source stands, fit for JSON. */
  state(): unknown;
  /** Continues where `state` was taken. */
  restore(state: unknown): void;
}

/**
 * Windows of text as a source. Beside the sampler's sizes it remembers a digest of the text: a run
 * does not resume on other text of the same length.
 *
 * @example
 * const data = Buffer.from('to be, or not to be: that is the question');
 * const source = textSource({ data, batch: 4, length: 8, seed: 1 });
 * const { inputs, targets } = source.next();
 */
export function textSource(options: BatchSamplerOptions): BatchSource<TextBatch> {
  const sampler = new BatchSampler(options);
  const digest = createHash('sha256').update(options.data).digest('hex');
  return {
    next: () => sampler.next(),
    state: () => ({ sampler: sampler.state(), digest }),
    restore(state) {
      const saved = state as { sampler: Parameters<BatchSampler['restore']>[0]; digest: string };
      sampler.restore(saved?.sampler);
      if (saved.digest === digest) return;
      throw new CheckpointError('the training text is not the one the checkpoint was trained on', {
        argument: 'data',
        value: `a text with SHA-256 ${digest.slice(0, 12)}... instead of ${String(saved.digest).slice(0, 12)}...`,
        remedy: 'Resume with the same files, or start a new run from its weights',
      });
    },
  };
}
