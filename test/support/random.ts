/** Seeded values for tests: the same on every machine and in every run. */
export class Random {
  #state: number;

  constructor(seed = 1) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1), 32 bits of it: a Weyl sequence through the finalizer of MurmurHash3. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let h = this.#state;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
  }

  uniform(count: number, low = -1, high = 1): Float64Array {
    return Float64Array.from({ length: count }, () => low + (high - low) * this.next());
  }

  /** Normal values by Box and Muller. */
  normal(count: number, mean = 0, deviation = 1): Float64Array {
    return Float64Array.from({ length: count }, () => {
      const radius = Math.sqrt(-2 * Math.log(1 - this.next()));
      return mean + deviation * radius * Math.cos(2 * Math.PI * this.next());
    });
  }

  /** Integers in [low, high). */
  integers(count: number, low: number, high: number): Int32Array {
    return Int32Array.from({ length: count }, () => low + Math.floor((high - low) * this.next()));
  }

  /** 0, 1, ... count - 1 in random order. */
  permutation(count: number): Int32Array {
    const order = Int32Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = Math.floor(this.next() * (i + 1));
      [order[i], order[j]] = [order[j] as number, order[i] as number];
    }
    return order;
  }
}
