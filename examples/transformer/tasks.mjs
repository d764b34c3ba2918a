/** The two tasks: sequences of 16 to 24 symbols out of 64, to be reversed or to be sorted. */
import { Random, tensor } from 'longspan';

export const pad = 0;
export const bos = 1;
export const eos = 2;
const first = 3;
export const symbols = 64;
export const vocabSize = first + symbols;
export const shortest = 16;
export const longest = 24;

/** What is asked of a sequence of token ids. */
export const answers = {
  reverse: (ids) => [...ids].reverse(),
  sort: (ids) => [...ids].sort((a, b) => a - b),
};

function sequence(random) {
  const length = shortest + random.below(longest - shortest + 1);
  return Array.from({ length }, () => first + random.below(symbols));
}

/** Rows of ids as an i32 tensor, padded to `length`. */
export function rows(list, length) {
  const data = new Int32Array(list.length * length).fill(pad);
  list.forEach((ids, i) => {
    data.set(ids, i * length);
  });
  return tensor(data, { shape: [list.length, length] });
}

/** An endless supply of training batches, drawn by a seed: a source for `train`. */
export class TaskSource {
  constructor(task, { batch, seed }) {
    this.task = task;
    this.batch = batch;
    this.random = new Random(seed);
  }

  next() {
    const sources = Array.from({ length: this.batch }, () => sequence(this.random));
    return { sources, targets: sources.map(answers[this.task]) };
  }

  state() {
    return this.random.state();
  }

  restore(state) {
    this.random = Random.from(state);
  }
}

/** Sequences that are none of `seen`, for the final test. With 64^16 to draw from, none ever is. */
export function unseen(count, seed) {
  const random = new Random(seed);
  return Array.from({ length: count }, () => sequence(random));
}
