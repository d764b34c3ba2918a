/** BLEU (Papineni, Roukos, Ward and Zhu 2002), over a corpus of token sequences. */

import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import { checkList, checkOptions } from '../../core/options.js';

/** A tokenised text: ids or words. */
export type Tokens = ArrayLike<number> | readonly string[];

/** Options of `corpusBleu`. */
export interface BleuOptions {
  /** Longest n-gram; 4 by default. */
  maxOrder?: number;
  /**
   * What to do where no n-gram of an order matches. `none` (the paper, and the default): the score
   * is 0. `add-one`: one is added to matches and total of orders above 1 (Lin and Och 2004).
   * `exponential`: the k-th empty order counts as 1 / 2^k matches (NIST; the default of sacreBLEU).
   */
  smoothing?: 'none' | 'add-one' | 'exponential';
}

/** A corpus score and what it is made of. */
export interface BleuScore {
  /** From 0 to 1; papers print it times 100. */
  readonly score: number;
  /** Modified precision of each order, after smoothing. */
  readonly precisions: readonly number[];
  readonly brevityPenalty: number;
  /** Tokens of all candidates. */
  readonly candidateLength: number;
  /** Tokens of the references closest in length, the shorter one of two equally close. */
  readonly referenceLength: number;
}

/**
 * Refuses what is no sequence of tokens.
 * @throws {ArgumentError} that names the argument.
 */
export function checkTokens(operator: string, argument: string, tokens: unknown): void {
  const isToken = (t: unknown): boolean =>
    typeof t === 'string' || (typeof t === 'number' && !Number.isNaN(t));
  const isView = ArrayBuffer.isView(tokens) && !(tokens instanceof DataView);
  if (isView || (Array.isArray(tokens) && tokens.every(isToken))) return;
  const remedy = 'Give a list of ids or of words';
  throw new ArgumentError('ERR_VALUE', operator, argument, show(tokens), remedy);
}

/** Tokens to small integers, so that numbers and words count the same way. */
class Interner {
  private readonly ids = new Map<number | string, number>();

  of(tokens: Tokens): number[] {
    return Array.from(tokens as ArrayLike<number | string>, (token) => {
      let id = this.ids.get(token);
      if (id === undefined) {
        id = this.ids.size;
        this.ids.set(token, id);
      }
      return id;
    });
  }
}

function countNgrams(tokens: readonly number[], order: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + order <= tokens.length; i++) {
    const key = tokens.slice(i, i + order).join(' ');
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

/** Candidate n-grams that occur in a reference, each at most as often as in the best reference. */
function clippedMatches(
  candidate: readonly number[],
  references: readonly (readonly number[])[],
  order: number,
): number {
  const limits = new Map<string, number>();
  for (const reference of references) {
    for (const [key, n] of countNgrams(reference, order)) {
      limits.set(key, Math.max(n, limits.get(key) ?? 0));
    }
  }
  let matches = 0;
  for (const [key, n] of countNgrams(candidate, order))
    matches += Math.min(n, limits.get(key) ?? 0);
  return matches;
}

function closestLength(length: number, references: readonly (readonly number[])[]): number {
  const distance = (n: number): number => Math.abs(n - length);
  return references
    .map((reference) => reference.length)
    .reduce((a, b) =>
      distance(b) < distance(a) || (distance(b) === distance(a) && b < a) ? b : a,
    );
}

function smooth(
  matches: readonly number[],
  totals: readonly number[],
  smoothing: BleuOptions['smoothing'],
): number[] {
  let empty = 0;
  return totals.map((total, i) => {
    const extra = smoothing === 'add-one' && i > 0 ? 1 : 0;
    if (total + extra === 0) return 0;
    if (matches[i] === 0 && smoothing === 'exponential') {
      empty++;
      return 1 / (2 ** empty * total);
    }
    return (matches[i] + extra) / (total + extra);
  });
}

/**
 * Corpus BLEU: the geometric mean of the clipped n-gram precisions of orders 1 to `maxOrder`,
 * summed over the corpus, times the brevity penalty exp(1 - r / c) for candidates that are shorter
 * than their references.
 *
 * @param candidates one token sequence for each sentence
 * @param references for each sentence one or more reference sequences
 * @throws {ArgumentError} for what are no tokens, when the two lists differ in length, are empty, or a
 * sentence has no reference.
 * @example
 * corpusBleu([['the', 'cat', 'sat', 'down']], [[['the', 'cat', 'sat', 'down']]]).score; // 1
 */
export function corpusBleu(
  candidates: readonly Tokens[],
  references: readonly (readonly Tokens[])[],
  options: BleuOptions = {},
): BleuScore {
  checkOptions('corpusBleu', options, ['maxOrder', 'smoothing']);
  const { maxOrder = 4, smoothing = 'none' } = options;
  checkList('corpusBleu', 'candidates', candidates, 'token sequences');
  checkList('corpusBleu', 'references', references, 'lists of token sequences');
  candidates.forEach((tokens, i) => {
    checkTokens('corpusBleu', `candidates[${i}]`, tokens);
  });
  references.forEach((list, i) => {
    checkList('corpusBleu', `references[${i}]`, list, 'token sequences');
    for (const tokens of list) checkTokens('corpusBleu', `references[${i}]`, tokens);
  });
  const lone = references.findIndex((list) => list.length === 0);
  if (candidates.length === 0 || candidates.length !== references.length || lone >= 0) {
    throw new ArgumentError(
      'ERR_VALUE',
      'corpusBleu',
      'references',
      lone >= 0
        ? `no reference for sentence ${lone}`
        : `${references.length} lists for ${candidates.length} candidates`,
      'Give one non-empty list of references for each candidate',
    );
  }
  if (!Number.isInteger(maxOrder) || maxOrder < 1) {
    const remedy = 'Give an integer >= 1';
    throw new ArgumentError('ERR_OPTION', 'corpusBleu', 'maxOrder', show(maxOrder), remedy);
  }
  if (!['none', 'add-one', 'exponential'].includes(smoothing)) {
    const remedy = "Give 'none', 'add-one' or 'exponential'";
    throw new ArgumentError('ERR_OPTION', 'corpusBleu', 'smoothing', show(smoothing), remedy);
  }
  const interner = new Interner();
  const matches = new Array<number>(maxOrder).fill(0);
  const totals = new Array<number>(maxOrder).fill(0);
  let candidateLength = 0;
  let referenceLength = 0;
  candidates.forEach((tokens, i) => {
    const candidate = interner.of(tokens);
    const known = references[i].map((reference) => interner.of(reference));
    candidateLength += candidate.length;
    referenceLength += closestLength(candidate.length, known);
    for (let order = 1; order <= maxOrder; order++) {
      matches[order - 1] += clippedMatches(candidate, known, order);
      totals[order - 1] += Math.max(0, candidate.length - order + 1);
    }
  });
  const precisions = smooth(matches, totals, smoothing);
  const mean = Math.exp(precisions.reduce((sum, p) => sum + Math.log(p), 0) / maxOrder);
  const brevityPenalty =
    candidateLength === 0
      ? 0
      : candidateLength >= referenceLength
        ? 1
        : Math.exp(1 - referenceLength / candidateLength);
  return {
    score: brevityPenalty * mean,
    precisions,
    brevityPenalty,
    candidateLength,
    referenceLength,
  };
}
