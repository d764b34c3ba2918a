/**
 * Seeded random numbers on the JavaScript side: which windows a batch takes, which files validate.
 * Random tensors come from the device's own counter-based generator, not from here.
 */

import { show } from './declare.js';
import { ArgumentError, CheckpointError } from './errors.js';
import { checkText } from './options.js';

/** The state of a `Random`, fit for JSON. */
export interface RandomState {
  readonly algorithm: 'xoshiro128**';
  /** Four unsigned 32-bit words. */
  readonly words: readonly number[];
}

const rotate = (x: number, k: number): number => (x << k) | (x >>> (32 - k));

function checkSeed(operator: string, seed: number, least: number): void {
  if (Number.isSafeInteger(seed) && seed >= least) return;
  const remedy = `Give ${least === 0 ? 'a non-negative' : 'an'} integer below 2^53`;
  throw new ArgumentError('ERR_VALUE', operator, 'seed', show(seed), remedy);
}

/** Mixes all bits of a 32-bit word into all bits (the finalizer of MurmurHash3). */
function avalanche(x: number): number {
  let h = x;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * A seeded 32-bit hash of a text: the same on every machine and in every version. Not for secrets.
 *
 * @throws ArgumentError for what is no text, or a seed that is no integer
 * @example
 * hashText('src/index.ts', 7); // an integer in [0, 2^32)
 */
export function hashText(text: string, seed = 0): number {
  checkText('hashText', 'text', text);
  checkSeed('hashText', seed, Number.MIN_SAFE_INTEGER);
  let h = avalanche(seed ^ 0x9e3779b9);
  for (const byte of new TextEncoder().encode(text)) {
    h = Math.imul(rotate(h, 5) ^ byte, 0x01000193);
  }
  return avalanche(h);
}

/**
 * xoshiro128** (Blackman and Vigna 2018), seeded by mixing a 53-bit integer. Small, fast, with a
 * state that can be saved and restored exactly.
 *
 * @example
 * const random = new Random(1);
 * const saved = JSON.stringify(random.state());
 * const next = random.below(100);
 * Random.from(JSON.parse(saved)).below(100) === next; // true
 */
export class Random {
  private readonly s = new Uint32Array(4);

  /** @param seed a non-negative integer below 2^53 */
  constructor(seed: number) {
    checkSeed('Random', seed, 0);
    const low = seed >>> 0;
    const high = Math.floor(seed / 2 ** 32);
    for (let i = 0; i < 4; i++) {
      this.s[i] = avalanche((low + Math.imul(i + 1, 0x9e3779b9)) ^ avalanche(high + i));
    }
    if (this.s.every((word) => word === 0)) this.s[0] = 1;
  }

  /**
   * A generator that continues where `state` was taken.
   *
   * @throws {CheckpointError} when `state` is not the state of such a generator.
   */
  static from(state: RandomState): Random {
    const words: unknown = state?.words;
    const valid =
      state?.algorithm === 'xoshiro128**' &&
      Array.isArray(words) &&
      words.length === 4 &&
      words.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32) &&
      words.some((word) => word !== 0);
    if (!valid) {
      throw new CheckpointError('the saved state of a random generator is not valid', {
        argument: 'state',
        value: show(state),
        remedy: 'Restore a state that Random.state() returned',
      });
    }
    const random = new Random(0);
    random.s.set(words as number[]);
    return random;
  }

  /** The state, to be given to `Random.from`. */
  state(): RandomState {
    return { algorithm: 'xoshiro128**', words: [...this.s] };
  }

  /** An integer in [0, 2^32). */
  uint32(): number {
    const { s } = this;
    const result = Math.imul(rotate(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11);
    return result;
  }

  /** A number in [0, 1) with 53 random bits. */
  uniform(): number {
    return ((this.uint32() >>> 5) * 2 ** 26 + (this.uint32() >>> 6)) / 2 ** 53;
  }

  /** An integer in [0, n), every one equally likely. `n` is an integer from 1 to 2^53 - 1. */
  below(n: number): number {
    if (!Number.isSafeInteger(n) || n < 1) {
      throw new ArgumentError('ERR_VALUE', 'Random.below', 'n', show(n), 'Give an integer >= 1');
    }
    const range = n <= 2 ** 32 ? 2 ** 32 : 2 ** 53;
    const limit = range - (range % n); // beyond it some results would be likelier than others
    for (;;) {
      const x =
        range === 2 ** 32 ? this.uint32() : (this.uint32() >>> 11) * 2 ** 32 + this.uint32();
      if (x < limit) return x % n;
    }
  }

  /** Puts an array into random order, in place (Fisher and Yates). */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    if (!Array.isArray(items) && !ArrayBuffer.isView(items)) {
      const remedy = 'Pass an array or a typed array';
      throw new ArgumentError('ERR_VALUE', 'Random.shuffle', 'items', show(items), remedy);
    }
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const kept = items[i];
      items[i] = items[j];
      items[j] = kept;
    }
    return items;
  }
}
