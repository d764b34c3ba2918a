/** Who holds which page of a paged cache. All on the host. */

/** @internal Pages with the number of their holders. */
export class PagePool {
  readonly #holders: Int32Array;
  /** Taken from the end: the lowest pages first, and those given back last. */
  readonly #free: number[];

  constructor(readonly size: number) {
    this.#holders = new Int32Array(size);
    this.#free = Array.from({ length: size }, (_, i) => size - 1 - i);
  }

  get free(): number {
    return this.#free.length;
  }

  holders(page: number): number {
    return this.#holders[page] as number;
  }

  /** A page with one holder. There must be a free one. */
  take(): number {
    const page = this.#free.pop();
    if (page === undefined) throw new Error('unreachable: pages are counted before they are taken');
    this.#holders[page] = 1;
    return page;
  }

  share(pages: readonly number[]): void {
    for (const page of pages) (this.#holders[page] as number)++;
  }

  release(pages: readonly number[]): void {
    for (const page of pages) {
      if (--(this.#holders[page] as number) === 0) this.#free.push(page);
    }
  }
}
