import { ArgumentError } from '../../core/errors.js';
import type { Tokens } from './bleu.js';

/**
 * Share of candidates that equal their reference, token for token.
 *
 * @returns a number from 0 to 1
 * @throws {ArgumentError} when the two lists differ in length or are empty.
 * @example
 * exactMatch([[1, 2], [3]], [[1, 2], [4]]); // 0.5
 */
export function exactMatch(candidates: readonly Tokens[], references: readonly Tokens[]): number {
  if (candidates.length === 0 || candidates.length !== references.length) {
    throw new ArgumentError(
      'ERR_VALUE',
      'exactMatch',
      'references',
      `${references.length} sequences for ${candidates.length} candidates`,
      'Give one reference for each candidate, and at least one',
    );
  }
  const equal = candidates.filter((tokens, i) => {
    const reference = references[i];
    if (tokens.length !== reference.length) return false;
    for (let j = 0; j < tokens.length; j++) if (tokens[j] !== reference[j]) return false;
    return true;
  });
  return equal.length / candidates.length;
}
