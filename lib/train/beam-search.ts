/**
 * Beam search over any next-token scorer. The algorithm holds no tensors: it tells the scorer, in
 * every step, which token each row took and which row's state it continues, so that a batched
 * decoder with a key/value cache can reorder its cache and compute one position.
 */

import { show } from '../core/declare.js';
import { AbortError, ArgumentError } from '../core/errors.js';
import {
  checkFlags,
  checkFunction,
  checkOptions,
  checkSignal,
  checkSizes,
} from '../core/options.js';

/** What a scorer is told in a step. There are batch * beam rows, a sentence's rows side by side. */
export interface BeamStep {
  /** Tokens generated so far: 0 in the first step. */
  readonly index: number;
  /** [rows] last token of each row; the start token in the first step. */
  readonly tokens: Int32Array;
  /** [rows] row of the previous step whose state each row continues; itself in the first step. */
  readonly parents: Int32Array;
  /** All tokens of a row, without the start token; for scorers that keep no state. */
  prefix(row: number): number[];
}

/** Returns logits or log-probabilities of the next token, [rows, vocabulary] row after row. */
export type BeamScorer = (
  step: BeamStep,
) => Float32Array | Float64Array | Promise<Float32Array | Float64Array>;

/** A sequence that was found. */
export interface Hypothesis {
  /** Generated tokens, without the start token, with the end token where it was reached. */
  readonly tokens: readonly number[];
  /** Sum of the log-probabilities of the tokens. */
  readonly logProbability: number;
  /** Log-probability over length penalty. */
  readonly score: number;
  /** Whether the end token was reached. */
  readonly finished: boolean;
}

/** Options of `beamSearch`. */
export interface BeamSearchOptions {
  scorer: BeamScorer;
  /** Token every sequence starts with. */
  bos: number;
  /** Token that ends a sequence. */
  eos: number;
  /** Most tokens to generate, the end token included. */
  maxSteps: number;
  /** Sentences searched at the same time; 1 by default. */
  batch?: number;
  /** Sequences kept alive for each sentence; 4 by default. */
  beam?: number;
  /** Length penalty ((5 + n) / 6)^alpha of Wu et al. 2016; 0.6 by default, 0 for none. */
  alpha?: number;
  /** Hypotheses to return for each sentence, at most `beam`; 1 by default. */
  nBest?: number;
  /**
   * Stop once no living sequence can beat the best finished one (true), or the worst of `beam`
   * finished ones (false). By default true where `nBest` is 1. Only for `tensor2tensor`.
   */
  stopEarly?: boolean;
  /**
   * `tensor2tensor` (the decoder of Vaswani et al. 2017, and the default): n counts the generated
   * tokens with the end token; finished sequences are kept beside `beam` living ones.
   * `opennmt`: n is larger by one, finished sequences take places in the beam, and sequences that
   * reach `maxSteps` count as finished.
   */
  convention?: 'tensor2tensor' | 'opennmt';
  signal?: AbortSignal;
}

/** A living sequence: its last token and what it continues. */
interface Node {
  readonly token: number;
  readonly previous: Node | undefined;
}

interface Alive {
  readonly node: Node | undefined;
  readonly logProbability: number;
  /** Row within the sentence that it continues. */
  readonly parent: number;
}

interface Candidate {
  readonly beam: number;
  readonly token: number;
  readonly score: number;
}

/** One sentence's search; the two conventions differ in what they keep and when they stop. */
interface Search {
  alive: Alive[];
  done: boolean;
  /** Takes the candidates of a step, [beam, vocabulary] log-probabilities of whole sequences. */
  advance(logProbabilities: Float64Array, vocabulary: number, step: number): void;
  result(): Hypothesis[];
}

function tokensOf(node: Node | undefined): number[] {
  const tokens: number[] = [];
  for (let at = node; at; at = at.previous) tokens.push(at.token);
  return tokens.reverse();
}

const lengthPenalty = (n: number, alpha: number): number => ((5 + n) / 6) ** alpha;

/** The `count` highest scores, best first; of equal ones the first. Impossible ones are left out. */
function best(
  scores: Float64Array,
  penalty: number,
  vocabulary: number,
  count: number,
): Candidate[] {
  const top: Candidate[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i] / penalty;
    if (!(score > least)) continue;
    let at = top.length < count ? top.length : count - 1;
    while (at > 0 && top[at - 1].score < score) {
      top[at] = top[at - 1];
      at--;
    }
    top[at] = { beam: Math.floor(i / vocabulary), token: i % vocabulary, score };
    if (top.length === count) least = top[count - 1].score;
  }
  return top;
}

const dead: Alive = { node: undefined, logProbability: Number.NEGATIVE_INFINITY, parent: 0 };

/** `beam` sequences; places that nothing living fills are dead and never chosen from. */
function fillBeam(alive: Alive[], beam: number): Alive[] {
  while (alive.length < beam) alive.push(dead);
  return alive;
}

const firstBeam = (beam: number): Alive[] =>
  fillBeam([{ node: undefined, logProbability: 0, parent: 0 }], beam);

type Settings = Required<Omit<BeamSearchOptions, 'scorer' | 'signal' | 'convention' | 'batch'>>;

function tensor2tensor({ beam, alpha, eos, maxSteps, nBest, stopEarly }: Settings): Search {
  const finished: Hypothesis[] = [];
  const search: Search = {
    alive: firstBeam(beam),
    done: false,
    advance(logProbabilities, vocabulary, step) {
      const penalty = lengthPenalty(step + 1, alpha);
      const next: Alive[] = [];
      for (const { beam: parent, token, score } of best(
        logProbabilities,
        penalty,
        vocabulary,
        2 * beam,
      )) {
        const node = { token, previous: search.alive[parent].node };
        const logProbability = logProbabilities[parent * vocabulary + token];
        if (token !== eos) {
          if (next.length < beam) next.push({ node, logProbability, parent });
        } else {
          finished.push({ tokens: tokensOf(node), logProbability, score, finished: true });
        }
      }
      finished.sort((a, b) => b.score - a.score); // stable: the earlier of equal ones first
      finished.length = Math.min(finished.length, beam);
      search.alive = fillBeam(next, beam);
      const bound = search.alive[0].logProbability / lengthPenalty(maxSteps, alpha);
      const rival = stopEarly ? finished[0] : finished[beam - 1];
      search.done = step + 1 >= maxSteps || (rival?.score ?? Number.NEGATIVE_INFINITY) > bound;
      if (bound === Number.NEGATIVE_INFINITY) search.done = true;
    },
    result() {
      if (finished.length > 0) return finished.slice(0, nBest);
      return search.alive
        .filter(({ logProbability }) => logProbability > Number.NEGATIVE_INFINITY)
        .slice(0, nBest)
        .map(({ node, logProbability }) => {
          const tokens = tokensOf(node);
          const score = logProbability / lengthPenalty(tokens.length, alpha);
          return { tokens, logProbability, score, finished: false };
        });
    },
  };
  return search;
}

function opennmt({ beam, alpha, eos, maxSteps, nBest }: Settings): Search {
  const kept: Hypothesis[] = [];
  let topFinished = false;
  const search: Search = {
    alive: firstBeam(beam),
    done: false,
    advance(logProbabilities, vocabulary, step) {
      const penalty = lengthPenalty(step + 2, alpha);
      const last = step + 1 >= maxSteps;
      const next: Alive[] = [];
      best(logProbabilities, penalty, vocabulary, beam).forEach((candidate, rank) => {
        const { beam: parent, token, score } = candidate;
        const node = { token, previous: search.alive[parent].node };
        const logProbability = logProbabilities[parent * vocabulary + token];
        if (token === eos || last) {
          const tokens = tokensOf(node);
          kept.push({ tokens, logProbability, score, finished: token === eos });
          topFinished ||= rank === 0;
          next.push({ ...dead, parent });
        } else next.push({ node, logProbability, parent });
      });
      search.alive = fillBeam(next, beam);
      const living = search.alive.some((one) => one.logProbability > Number.NEGATIVE_INFINITY);
      search.done = last || !living || (topFinished && kept.length >= nBest);
    },
    result: () => [...kept].sort((a, b) => b.score - a.score).slice(0, nBest),
  };
  return search;
}

/** Log-softmax of one row of logits plus the sequence's own log-probability. */
function extend(
  logits: Float32Array | Float64Array,
  start: number,
  vocabulary: number,
  base: number,
  out: Float64Array,
  at: number,
): void {
  if (base === Number.NEGATIVE_INFINITY) {
    out.fill(base, at, at + vocabulary);
    return;
  }
  let highest = Number.NEGATIVE_INFINITY;
  let sound = true;
  for (let v = 0; v < vocabulary; v++) {
    const x = logits[start + v];
    if (x > highest) highest = x;
    sound &&= !Number.isNaN(x);
  }
  if (!sound || !Number.isFinite(highest)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'beamSearch',
      'scorer',
      `a function that returned ${sound ? `a highest logit of ${highest}` : 'NaN'} in row ${start / vocabulary}`,
      'Logits must be numbers, with at least one finite per row; check the model for overflow',
    );
  }
  let sum = 0;
  for (let v = 0; v < vocabulary; v++) sum += Math.exp(logits[start + v] - highest);
  const normaliser = highest + Math.log(sum);
  for (let v = 0; v < vocabulary; v++) out[at + v] = logits[start + v] - normaliser + base;
}

const optionNames: readonly (keyof BeamSearchOptions)[] = [
  'scorer',
  'bos',
  'eos',
  'maxSteps',
  'batch',
  'beam',
  'alpha',
  'nBest',
  'stopEarly',
  'convention',
  'signal',
];

function validate(options: BeamSearchOptions): void {
  checkOptions('beamSearch', options, optionNames);
  const { scorer, bos, eos, stopEarly, signal } = options;
  checkFunction('beamSearch', scorer, 'scorer');
  checkSizes('beamSearch', { bos, eos }, 0);
  checkFlags('beamSearch', { stopEarly });
  checkSignal('beamSearch', signal);
  const counts = { beam: 4, batch: 1, nBest: 1, ...options };
  for (const argument of ['beam', 'batch', 'nBest', 'maxSteps'] as const) {
    const value = counts[argument];
    if (Number.isSafeInteger(value) && value >= 1) continue;
    const remedy = 'Give an integer >= 1';
    throw new ArgumentError('ERR_OPTION', 'beamSearch', argument, show(value), remedy);
  }
  if (counts.nBest > counts.beam) {
    const remedy = `Give at most the beam, ${counts.beam}, or widen the beam`;
    throw new ArgumentError('ERR_OPTION', 'beamSearch', 'nBest', String(counts.nBest), remedy);
  }
  const { alpha = 0.6, convention = 'tensor2tensor' } = options;
  if (!Number.isFinite(alpha) || alpha < 0) {
    const remedy = 'Give a finite number >= 0';
    throw new ArgumentError('ERR_OPTION', 'beamSearch', 'alpha', show(alpha), remedy);
  }
  if (convention !== 'tensor2tensor' && convention !== 'opennmt') {
    const remedy = "Give 'tensor2tensor' or 'opennmt'";
    throw new ArgumentError('ERR_OPTION', 'beamSearch', 'convention', show(convention), remedy);
  }
}

/**
 * Searches for the likeliest sequences with a beam and a length penalty.
 *
 * Each sentence stops by itself, so its result does not depend on the others of the batch; rows of
 * sentences that have stopped keep their place and are scored in vain. In `tensor2tensor`,
 * sequences unfinished after `maxSteps` are returned only where no finished one exists.
 *
 * @returns for each sentence its hypotheses, best first: `nBest`, or fewer where the search ended
 * with fewer
 * @throws {ArgumentError} when an option is out of range, or the scorer returns NaN or a wrong size.
 * @throws {AbortError} when `signal` fires.
 * @example
 * // Of tokens 0 to 3, token 2 ends a sequence and is likelier with every step.
 * const [[found]] = await beamSearch({
 *   scorer: ({ index, tokens }) =>
 *     Float32Array.from({ length: tokens.length * 4 }, (_, i) => (i % 4 === 2 ? index - 2 : 0)),
 *   bos: 1,
 *   eos: 2,
 *   maxSteps: 10,
 * });
 * console.log(found.tokens, found.score);
 */
export async function beamSearch(options: BeamSearchOptions): Promise<Hypothesis[][]> {
  validate(options);
  const { scorer, bos, maxSteps, batch = 1, beam = 4, nBest = 1, signal } = options;
  const settings: Settings = { alpha: 0.6, stopEarly: nBest === 1, ...options, beam, nBest };
  const make = options.convention === 'opennmt' ? opennmt : tensor2tensor;
  const searches = Array.from({ length: batch }, () => make(settings));
  const rows = batch * beam;
  let tokens = new Int32Array(rows).fill(bos);
  let parents = Int32Array.from({ length: rows }, (_, row) => row);
  let scores = new Float64Array(0);
  for (let index = 0; index < maxSteps && searches.some((search) => !search.done); index++) {
    if (signal?.aborted) throw new AbortError('beam search was aborted', { cause: signal.reason });
    const prefix = (row: number): number[] =>
      tokensOf(searches[Math.floor(row / beam)]?.alive[row % beam]?.node);
    const logits = await scorer({ index, tokens, parents, prefix });
    if (!ArrayBuffer.isView(logits)) {
      const remedy = 'Return a Float32Array or Float64Array of [rows, vocabulary] logits';
      const value = `a function that returned ${show(logits)}`;
      throw new ArgumentError('ERR_VALUE', 'beamSearch', 'scorer', value, remedy);
    }
    const vocabulary = logits.length / rows;
    if (!Number.isInteger(vocabulary) || vocabulary < 1) {
      throw new ArgumentError(
        'ERR_SHAPE',
        'beamSearch',
        'scorer',
        `a function that returned ${logits.length} numbers for ${rows} rows`,
        'Return [rows, vocabulary] logits, row after row',
      );
    }
    if (scores.length !== beam * vocabulary) scores = new Float64Array(beam * vocabulary);
    tokens = tokens.slice();
    parents = Int32Array.from({ length: rows }, (_, row) => row);
    searches.forEach((search, sentence) => {
      if (search.done) return;
      const first = sentence * beam;
      search.alive.forEach(({ logProbability }, k) => {
        extend(
          logits,
          (first + k) * vocabulary,
          vocabulary,
          logProbability,
          scores,
          k * vocabulary,
        );
      });
      search.advance(scores, vocabulary, index);
      search.alive.forEach(({ node, parent }, k) => {
        tokens[first + k] = node?.token ?? bos;
        parents[first + k] = first + parent;
      });
    });
  }
  return searches.map((search) => search.result());
}
