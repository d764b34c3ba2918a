/**
 * Interpolated n-gram models of bytes, orders 1 to 3: the yardstick a trained network has to beat.
 *
 *   p_0(c)     = 1 / 256
 *   p_k(c | h) = w_k(h) * count(h c) / count(h) + (1 - w_k(h)) * p_{k-1}(c | h')
 *
 * h is the k - 1 bytes before c and h' the last k - 2 of them. The weights are tied by the size of
 * count(h), in powers of two, and estimated by expectation-maximisation on text that the counts
 * have not seen: whole files of the training text are held out, then counted in with the rest
 * (Jelinek and Mercer 1980; Chen and Goodman 1999, section 2.3).
 *
 * Cost: 4 bytes * 256^3 = 64 MiB of counts (twice that while fitting), about 0.2 s per million
 * bytes.
 */

import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import { checkOptions, checkSizes } from '../../core/options.js';

/** Contexts counted 1, 2-3, 4-7, ... times share a weight. */
const BINS = 33;
const UNIFORM = 1 / 256;
const EM_ROUNDS = 40;
/** Where a text is not divided into files, held-out pieces have this many bytes at most. */
const PIECE_BYTES = 1 << 14;

/** Text: one piece or several; contexts do not cross from one to the next. */
export type NgramText = Uint8Array | readonly Uint8Array[];

/** Options of `fitNgram`. */
export interface NgramOptions {
  /** Share of the training bytes the weights are estimated on; 0.1 by default. */
  heldOut?: number;
  /** Fixed weights w_1, w_2, w_3 for every context instead of estimated ones. */
  weights?: readonly number[];
}

/** Counts of all byte triples, pairs and single bytes of a text. */
interface Counts {
  readonly triples: Uint32Array;
  readonly pairs: Uint32Array;
  readonly bytes: Uint32Array;
  /** count(a b) as the context of a third byte, count(a) as that of a second, number of bytes. */
  readonly afterPair: Uint32Array;
  readonly afterByte: Uint32Array;
  total: number;
}

const isList = (text: NgramText): text is readonly Uint8Array[] => Array.isArray(text);
const binOf = (count: number): number => 32 - Math.clz32(count);

function pieces(text: NgramText): readonly Uint8Array[] {
  const list: readonly Uint8Array[] = isList(text) ? text : [text];
  for (const piece of list) {
    if (!ArrayBuffer.isView(piece)) {
      throw new ArgumentError('ERR_VALUE', 'fitNgram', 'text', show(piece), 'Give bytes');
    }
  }
  return list;
}

function count(list: readonly Uint8Array[], order: number): Counts {
  const counts: Counts = {
    triples: new Uint32Array(order >= 3 ? 1 << 24 : 0),
    pairs: new Uint32Array(1 << 16),
    bytes: new Uint32Array(256),
    afterPair: new Uint32Array(1 << 16),
    afterByte: new Uint32Array(256),
    total: 0,
  };
  const { triples, pairs, bytes, afterPair, afterByte } = counts;
  for (const text of list) {
    let history = 0;
    for (let i = 0; i < text.length; i++) {
      history = ((history << 8) | text[i]) & 0xffffff;
      bytes[text[i]]++;
      if (i >= 1) {
        pairs[history & 0xffff]++;
        afterByte[(history >>> 8) & 0xff]++;
      }
      if (i >= 2 && order >= 3) {
        triples[history]++;
        afterPair[history >>> 8]++;
      }
    }
    counts.total += text.length;
  }
  return counts;
}

/** Divides the training text: about `share` of it, spread over the whole, is held out. */
function holdOut(
  list: readonly Uint8Array[],
  share: number,
): { counted: Uint8Array[]; held: Uint8Array[] } {
  let parts = list.filter((text) => text.length > 0);
  const total = parts.reduce((sum, text) => sum + text.length, 0);
  if (parts.length < 20) {
    const size = Math.max(1, Math.min(PIECE_BYTES, Math.floor(total / 40)));
    parts = parts.flatMap((text) =>
      Array.from({ length: Math.ceil(text.length / size) }, (_, i) =>
        text.subarray(i * size, (i + 1) * size),
      ),
    );
  }
  const counted: Uint8Array[] = [];
  const held: Uint8Array[] = [];
  let seen = 0;
  let heldBytes = 0;
  for (const text of parts) {
    seen += text.length;
    // Hold a piece out when that brings the share so far closer to the one wanted.
    if (Math.abs(heldBytes + text.length - share * seen) < Math.abs(heldBytes - share * seen)) {
      held.push(text);
      heldBytes += text.length;
    } else counted.push(text);
  }
  return { counted, held };
}

/** The model's three relative frequencies for one byte, and the bins of its contexts. */
class Estimates {
  /** count(h c) / count(h) for k = 1, 2, 3; 0 where the context is new. */
  readonly f = new Float64Array(3);
  /** Bin of count(h); 0 where the context is new, and its weight does not apply. */
  readonly bin = new Int32Array(3);

  constructor(
    private readonly counts: Counts,
    private readonly order: number,
  ) {}

  /** Looks up the byte at the end of `history`, of which `known` bytes before it exist. */
  at(history: number, known: number): void {
    const { counts, f, bin } = this;
    f[0] = counts.total > 0 ? counts.bytes[history & 0xff] / counts.total : 0;
    bin[0] = counts.total > 0 ? 1 : 0;
    for (let k = 1; k < this.order; k++) {
      const context =
        known < k
          ? 0
          : k === 1
            ? counts.afterByte[(history >>> 8) & 0xff]
            : counts.afterPair[history >>> 8];
      bin[k] = binOf(context);
      if (context > 0) {
        f[k] = (k === 1 ? counts.pairs[history & 0xffff] : counts.triples[history]) / context;
      } else f[k] = 0;
    }
  }
}

/** Weights [k][bin] after expectation-maximisation on held-out text; all orders up to `order`. */
function estimateWeights(
  counts: Counts,
  held: readonly Uint8Array[],
  order: number,
): Float64Array[] {
  const weights = Array.from({ length: order }, () => new Float64Array(BINS).fill(0.5));
  for (const w of weights) w[0] = 0;
  const length = held.reduce((sum, text) => sum + text.length, 0);
  if (length === 0) return weights;
  // Frequencies and bins do not change between rounds: keep them, [position][k].
  const f = new Float64Array(length * order);
  const bin = new Uint8Array(length * order);
  const estimates = new Estimates(counts, order);
  let at = 0;
  for (const text of held) {
    let history = 0;
    for (let i = 0; i < text.length; i++, at += order) {
      history = ((history << 8) | text[i]) & 0xffffff;
      estimates.at(history, i);
      for (let k = 0; k < order; k++) {
        f[at + k] = estimates.f[k];
        bin[at + k] = estimates.bin[k];
      }
    }
  }
  const own = weights.map(() => new Float64Array(BINS)); // expected times order k gave the byte
  const reached = weights.map(() => new Float64Array(BINS)); // ... order k or a lower one did
  const lower = new Float64Array(order + 1);
  for (let round = 0; round < EM_ROUNDS; round++) {
    for (let k = 0; k < order; k++) {
      own[k].fill(0);
      reached[k].fill(0);
    }
    for (let i = 0; i < f.length; i += order) {
      lower[0] = UNIFORM;
      for (let k = 0; k < order; k++) {
        const w = weights[k][bin[i + k]];
        lower[k + 1] = w * f[i + k] + (1 - w) * lower[k];
      }
      let share = 1; // probability that neither of the higher orders gave the byte
      for (let k = order - 1; k >= 0; k--) {
        const b = bin[i + k];
        const mine = (weights[k][b] * f[i + k]) / lower[k + 1];
        own[k][b] += share * mine;
        reached[k][b] += share;
        share *= 1 - mine;
      }
    }
    for (let k = 0; k < order; k++) {
      for (let b = 1; b < BINS; b++) {
        // A trace of weight always stays below, so that nothing gets probability 0.
        if (reached[k][b] > 0) weights[k][b] = Math.min(own[k][b] / reached[k][b], 1 - 1e-6);
      }
    }
  }
  return weights.map((w, k) => fillGaps(w, reached[k]));
}

/** Bins that no held-out byte fell into take the weight of the nearest bin below, or above. */
function fillGaps(w: Float64Array, reached: Float64Array): Float64Array {
  const first = reached.findIndex((times, b) => b >= 1 && times > 0);
  if (first < 0) return w;
  w.fill(w[first], 1, first);
  for (let b = first + 1; b < BINS; b++) if (reached[b] === 0) w[b] = w[b - 1];
  return w;
}

/** A fitted model; see `fitNgram`. */
export class NgramModel {
  private readonly estimates: Estimates;

  /** @internal Use `fitNgram`. */
  constructor(
    /** 1, 2 or 3. */
    readonly order: number,
    counts: Counts,
    /** w_k by the bin of its context's count, [order][33]; bin 0 is a context never seen. */
    readonly weights: readonly Float64Array[],
  ) {
    this.estimates = new Estimates(counts, order);
  }

  private lookUp(history: number, known: number): number {
    const { estimates, weights } = this;
    estimates.at(history, known);
    let p = UNIFORM;
    for (let k = 0; k < this.order; k++) {
      const w = weights[k][estimates.bin[k]];
      p = w * estimates.f[k] + (1 - w) * p;
    }
    return p;
  }

  /**
   * Probability of `byte` after `context`; only its last `order - 1` bytes matter. Over the 256
   * bytes the probabilities sum to 1.
   */
  probability(byte: number, context: ArrayLike<number> = []): number {
    checkSizes('NgramModel.probability', { byte }, 0);
    if (byte > 255 || (!Array.isArray(context) && !ArrayBuffer.isView(context))) {
      const [name, value] = byte > 255 ? ['byte', byte] : ['context', context];
      const remedy = byte > 255 ? 'Give a byte, 0 to 255' : 'Give a list of bytes';
      throw new ArgumentError('ERR_VALUE', 'NgramModel.probability', name, show(value), remedy);
    }
    let history = 0;
    const known = Math.min(context.length, 2);
    for (let i = context.length - known; i < context.length; i++) {
      history = (history << 8) | context[i];
    }
    return this.lookUp(((history << 8) | byte) & 0xffffff, known);
  }

  /**
   * Mean of -log2 p over the bytes of a text. The first bytes of each piece, which have less
   * context, are predicted by the lower orders and count as well.
   *
   * @throws {ArgumentError} when there are no bytes.
   */
  bitsPerByte(text: NgramText): number {
    let bits = 0;
    let length = 0;
    for (const piece of pieces(text)) {
      let history = 0;
      for (let i = 0; i < piece.length; i++) {
        history = ((history << 8) | piece[i]) & 0xffffff;
        bits -= Math.log2(this.lookUp(history, i));
      }
      length += piece.length;
    }
    if (length > 0) return bits / length;
    throw new ArgumentError('ERR_VALUE', 'bitsPerByte', 'text', 'empty', 'Give at least one byte');
  }
}

function fitModels(
  list: readonly Uint8Array[],
  orders: readonly number[],
  options: NgramOptions,
): NgramModel[] {
  checkOptions('fitNgram', options, ['heldOut', 'weights']);
  const { heldOut = 0.1, weights } = options;
  const highest = Math.max(...orders);
  for (const order of orders) {
    if (order === 1 || order === 2 || order === 3) continue;
    throw new ArgumentError('ERR_VALUE', 'fitNgram', 'order', show(order), 'Give 1, 2 or 3');
  }
  if (typeof heldOut !== 'number' || !(heldOut > 0 && heldOut < 1)) {
    const remedy = 'Give a share between 0 and 1';
    throw new ArgumentError('ERR_OPTION', 'fitNgram', 'heldOut', show(heldOut), remedy);
  }
  const isWeight = (w: unknown) => typeof w === 'number' && w >= 0 && w < 1;
  if (
    weights !== undefined &&
    (!Array.isArray(weights) || weights.length < highest || !weights.every(isWeight))
  ) {
    const remedy = `Give ${highest} numbers from 0 to below 1`;
    throw new ArgumentError('ERR_OPTION', 'fitNgram', 'weights', show(weights), remedy);
  }
  if (!list.some((text) => text.length > 0)) {
    throw new ArgumentError('ERR_VALUE', 'fitNgram', 'text', 'empty', 'Give at least one byte');
  }
  const fixed = weights?.map((w) => new Float64Array(BINS).fill(w).fill(0, 0, 1));
  const estimated = fixed ? [] : estimate(list, orders, heldOut);
  const counts = count(list, highest);
  return orders.map(
    (order, i) => new NgramModel(order, counts, fixed?.slice(0, order) ?? estimated[i]),
  );
}

function estimate(
  list: readonly Uint8Array[],
  orders: readonly number[],
  heldOut: number,
): Float64Array[][] {
  const { counted, held } = holdOut(list, heldOut);
  const counts = count(counted, Math.max(...orders));
  return orders.map((order) => estimateWeights(counts, held, order));
}

/**
 * Fits an interpolated n-gram model to text.
 *
 * @param train the training text; give its files as a list, so that whole files are held out
 * @param order 1 (unigram), 2 or 3 (trigram)
 * @throws {ArgumentError} when the text is empty or an option is out of range.
 * @example
 * const trigram = fitNgram([Buffer.from('to be or not to be'), Buffer.from('to be is to do')], 3);
 * trigram.bitsPerByte([Buffer.from('not to do')]);
 */
export function fitNgram(train: NgramText, order: number, options: NgramOptions = {}): NgramModel {
  return fitModels(pieces(train), [order], options)[0];
}

/** Bits per byte of both yardsticks on the same validation text. */
export interface NgramBaselines {
  readonly unigram: number;
  readonly trigram: number;
}

/**
 * Bits per byte, on validation text, of the interpolated unigram and trigram models fitted to the
 * training text.
 *
 * @example
 * const training = [Buffer.from('to be or not to be'), Buffer.from('to be is to do')];
 * const { unigram, trigram } = ngramBaselines(training, [Buffer.from('not to do')]);
 */
export function ngramBaselines(
  train: NgramText,
  validation: NgramText,
  options: NgramOptions = {},
): NgramBaselines {
  const [unigram, trigram] = fitModels(pieces(train), [1, 3], options);
  return { unigram: unigram.bitsPerByte(validation), trigram: trigram.bitsPerByte(validation) };
}
