import { ArgumentError } from '../../core/errors.js';
import { checkList } from '../../core/options.js';
import { checkTokens, type Tokens } from './bleu.js';

/**
 * Share of candidates that equal their reference, token for token.
 *
 * @returns a number from 0 to 1
 * @throws {ArgumentError} for what are no tokens, and when the two lists differ in length or are empty.
 * @example
 * exactMatch([[1, 2], [3]], [[1, 2], [4]]); // 0.5
 */
export function exactMatch(candidates: readonly Tokens[], references: readonly Tokens[]): number {
  for (const [name, list] of Object.entries({ candidates, references })) {
    checkList('exactMatch', name, list, 'token sequences');
    list.forEach((tokens, i) => {
      checkTokens('exactMatch', `${name}[${i}]`, tokens);
    });
  }
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
