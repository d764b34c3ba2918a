/** A key/value cache in pages that sequences take as they grow, and share. */
import { noGrad } from '../core/autograd/index.js';
import { zeros } from '../core/create.js';
import { asTensor, show } from '../core/declare.js';
import type { Device } from '../core/device.js';
import type { DType } from '../core/dtype.js';
import { ArgumentError, OutOfMemoryError } from '../core/errors.js';
import { checkOptions, checkSizes } from '../core/options.js';
import { assign } from '../core/primitives.js';
import { keep, tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { slice } from '../core/views.js';
import { type AppendRotary, appendTokens } from './kv-append.js';
import { PagePool } from './page-pool.js';

/** What a {@link PagedKvCache} is made for. */
export interface PagedKvCacheOptions {
  /** Most sequences at a time. */
  batch: number;
  /** Pages for all of them. */
  pages: number;
  /** Tokens of a page, from 1 on. */
  pageSize: number;
  /** Most pages of one sequence. Default `pages`. */
  pagesPerEntry?: number;
  /** Heads of keys and values. */
  heads: number;
  /** D, the last axis of keys. */
  headDim: number;
  /** Dv, the last axis of values. Default `headDim`. */
  valueDim?: number;
  /** Default f32. */
  dtype?: DType;
  /** Default `cpu`. */
  device?: Device | string;
}

const optionNames = [
  'batch',
  'pages',
  'pageSize',
  'pagesPerEntry',
  'heads',
  'headDim',
  'valueDim',
  'dtype',
  'device',
];

/** A sequence: the pages that hold its tokens, in order. */
interface Entry {
  pages: number[];
  length: number;
}

/**
 * Keys and values of up to `batch` sequences in pages of `pageSize` tokens, which a sequence takes as it
 * grows and gives back when it ends (Kwon et al. 2023): memory follows what is cached, not the longest
 * sequence that there could be. Forks share pages; one that writes into a page which others hold gets a copy
 * of it first.
 *
 * Who holds which page is decided on the host, which therefore counts the tokens: `append` is told numbers.
 * The table of pages and the lengths lie on the device, where operators read them, so that steps can be
 * captured: record {@link write}, and call {@link advance} before each replay.
 *
 * @example
 * using cache = new PagedKvCache({ batch: 4, pages: 64, pageSize: 16, heads: 2, headDim: 8 });
 * const prompt = cache.admit();
 * cache.append(normal([4, 2, 20, 8]), normal([4, 2, 20, 8])); // rows of sequences not admitted are ignored
 * cache.fork(prompt); // two sequences from here on, in 3 pages once one of them goes on
 * cache.append(normal([4, 2, 1, 8]), normal([4, 2, 1, 8]));
 * const y = attentionDecode(normal([4, 2, 1, 8]), cache);
 * console.log(cache.freePages); // 61
 */
export class PagedKvCache {
  /** [pages, H, pageSize, D]: the rows of a head in a page lie together. */
  readonly keys: Tensor;
  /** [pages, H, pageSize, Dv] */
  readonly values: Tensor;
  /** i32[batch]; 0 for sequences that are not there. */
  readonly lengths: Tensor;
  /** i32[batch, pagesPerEntry]: the pages of each sequence, -1 beyond them. */
  readonly pageTable: Tensor;
  readonly batch: number;
  readonly pageSize: number;
  readonly pagesPerEntry: number;
  /** i32[batch]: how many tokens of the next write each sequence takes. */
  readonly #counts: Tensor;
  /** What that tensor holds. */
  #counted: readonly number[];
  readonly #pool: PagePool;
  /** Whether keys and values are another cache's. */
  readonly #shared: boolean;
  readonly #entries: (Entry | null)[];

  /** @throws ArgumentError for a misspelt option or sizes that are not whole numbers from 1 on */
  constructor(options: PagedKvCacheOptions);
  /** @internal See {@link beside}. */
  constructor(options: PagedKvCacheOptions, other: PagedKvCache);
  constructor(options: PagedKvCacheOptions, other?: PagedKvCache) {
    checkOptions('PagedKvCache', options, optionNames);
    const { batch, pages, pageSize, pagesPerEntry = pages, heads } = options;
    const { headDim, valueDim = headDim, dtype = 'f32', device } = options;
    checkSizes('PagedKvCache', {
      ...{ batch, pages, pageSize, pagesPerEntry },
      ...{ heads, headDim, valueDim },
    });
    const on = device === undefined ? {} : { device };
    const make = (shape: number[], type: DType) => keep(zeros(shape, { dtype: type, ...on }));
    this.batch = batch;
    this.pageSize = pageSize;
    this.pagesPerEntry = pagesPerEntry;
    this.keys = other?.keys ?? make([pages, heads, pageSize, headDim], dtype);
    this.values = other?.values ?? make([pages, heads, pageSize, valueDim], dtype);
    this.lengths = make([batch], 'i32');
    this.pageTable = make([batch, pagesPerEntry], 'i32');
    this.#counts = make([batch], 'i32');
    this.#counted = new Array<number>(batch).fill(0);
    this.#pool = other ? other.#pool : new PagePool(pages);
    this.#shared = other !== undefined;
    this.#entries = new Array<null>(batch).fill(null);
    this.#writeTable();
  }

  /** Pages that no sequence holds. */
  get freePages(): number {
    return this.#pool.free;
  }

  /** Pages that sequences of this cache hold; one that several share counts once. */
  get heldPages(): number {
    return new Set(this.#entries.flatMap((entry) => entry?.pages ?? [])).size;
  }

  /**
   * An empty cache of other sequences in the same pages: what a sequence of one takes, none of the other can.
   * Keys and values stay those of this cache, which must be the last to be disposed of.
   *
   * @param options.batch most sequences at a time
   * @param options.pagesPerEntry most pages of one sequence. Default: as here
   * @example
   * using cache = new PagedKvCache({ batch: 1, pages: 8, pageSize: 4, heads: 2, headDim: 8 });
   * using other = cache.beside({ batch: 2 });
   * other.admit();
   * other.advance([5, 0]);
   * console.log(cache.freePages); // 6
   */
  beside(options: { batch: number; pagesPerEntry?: number }): PagedKvCache {
    checkOptions('PagedKvCache.beside', options, ['batch', 'pagesPerEntry']);
    const { keys, values } = this;
    const [pages, heads, pageSize, headDim] = keys.shape as [number, number, number, number];
    const { batch, pagesPerEntry = this.pagesPerEntry } = options;
    return new PagedKvCache(
      {
        ...{ batch, pages, pageSize, pagesPerEntry, heads, headDim, valueDim: values.dim(3) },
        ...{ dtype: keys.dtype, device: keys.device },
      },
      this,
    );
  }

  /** Tokens of a sequence, as {@link append} and {@link advance} have counted them; 0 if it is not there. */
  lengthOf(entry: number): number {
    this.#checkIndex('lengthOf', entry);
    return this.#entries[entry]?.length ?? 0;
  }

  /**
   * Takes in a sequence, empty so far.
   *
   * @returns its row of the batch
   * @throws OutOfMemoryError when all rows are taken
   */
  admit(): number {
    return this.#place('admit', { pages: [], length: 0 });
  }

  /**
   * Takes in a sequence that begins like another: it shares all pages of that one.
   *
   * @returns its row of the batch
   * @throws ArgumentError for a sequence that is not there
   * @throws OutOfMemoryError when all rows are taken
   */
  fork(entry: number): number {
    const { pages, length } = this.#there('fork', entry);
    const row = this.#place('fork', { pages: [...pages], length });
    this.#pool.share(pages);
    this.#writeTable();
    this.#writeLengths();
    return row;
  }

  /** Lets a sequence go, and the pages that no other holds. */
  free(entry: number): void {
    this.#pool.release(this.#there('free', entry).pages);
    this.#entries[entry] = null;
    this.#writeTable();
    this.#writeLengths();
  }

  /**
   * Writes new tokens behind the cached ones: {@link advance}, then {@link write}.
   *
   * @param k new keys, [batch, H, T, D] in the dtype of the cache
   * @param v new values, [batch, H, T, Dv]
   * @param options.counts how many of the T tokens each sequence takes, one number for all or one per row of
   *   the batch. Default: all; rows without a sequence take none
   * @param options.rotary rotates the keys, and queries beside them, in the same pass
   * @returns the rotated queries, [batch, Hq, T, D], where `rotary` has any, else null
   * @throws OutOfMemoryError when there are too few free pages; nothing has changed then
   * @throws ArgumentError for shapes, dtypes or counts that do not fit
   */
  append(
    k: Tensor,
    v: Tensor,
    options: {
      counts?: number | readonly number[];
      rotary: AppendRotary & { queries: Tensor };
    },
  ): Tensor;
  append(
    k: Tensor,
    v: Tensor,
    options?: { counts?: number | readonly number[]; rotary?: AppendRotary },
  ): Tensor | null;
  append(
    k: Tensor,
    v: Tensor,
    options: { counts?: number | readonly number[]; rotary?: AppendRotary } = {},
  ): Tensor | null {
    checkOptions('PagedKvCache.append', options, ['counts', 'rotary']);
    asTensor('PagedKvCache.append', 'k', k);
    const { counts = k.shape[2] ?? 0, rotary } = options;
    const tokens = k.shape[2] ?? 0;
    const list = this.#countsOf('append', counts);
    if (list.some((n) => n > tokens)) {
      const remedy = `Use at most ${tokens}, the new tokens of 'k'`;
      throw new ArgumentError('ERR_VALUE', 'PagedKvCache.append', 'counts', `[${list}]`, remedy);
    }
    this.advance(list);
    try {
      return this.write(k, v, rotary ? { rotary } : {});
    } catch (error) {
      this.#retreat(list);
      throw error;
    }
  }

  /**
   * Counts further tokens and takes pages for them; a last page that others hold too is copied. Replays of a
   * recorded {@link write} need a call before each, {@link append} makes it itself.
   *
   * @param counts for every sequence, or one per row of the batch
   * @throws OutOfMemoryError when there are too few free pages; nothing has changed then
   * @throws ArgumentError for counts that do not fit
   */
  advance(counts: number | readonly number[]): void {
    const list = this.#countsOf('advance', counts);
    const needed = this.#needed(list);
    if (needed > this.freePages) {
      throw new OutOfMemoryError(
        `PagedKvCache: ${needed} pages are needed and ${this.freePages} of ${this.#pool.size} are free`,
        {
          operator: 'PagedKvCache',
          argument: 'counts',
          value: `[${list}]`,
          remedy: 'Free a sequence, truncate one, or make the cache with more pages',
        },
      );
    }
    let changed = false;
    this.#entries.forEach((entry, row) => {
      const count = list[row] as number;
      if (!entry || count === 0) return;
      const last = entry.pages.length - 1;
      if (this.#copiesLast(entry, this.#pool.holders(entry.pages[last] ?? 0))) {
        const shared = entry.pages[last] as number;
        const own = this.#pool.take();
        this.#copyPage(shared, own);
        this.#pool.release([shared]);
        entry.pages[last] = own;
        changed = true;
      }
      entry.length += count;
      for (const pages = this.#pagesFor(entry.length); entry.pages.length < pages; changed = true)
        entry.pages.push(this.#pool.take());
    });
    if (changed) this.#writeTable();
    if (list.some((n, i) => n !== this.#counted[i])) {
      this.#counts.write(Int32Array.from(list));
      this.#counted = list;
    }
  }

  /**
   * What {@link append} does on the device: it writes the tokens that the last {@link advance} counted. To be
   * recorded by `device.capture`.
   */
  write(k: Tensor, v: Tensor, options: { rotary: AppendRotary & { queries: Tensor } }): Tensor;
  write(k: Tensor, v: Tensor, options?: { rotary?: AppendRotary }): Tensor | null;
  write(k: Tensor, v: Tensor, options: { rotary?: AppendRotary } = {}): Tensor | null {
    checkOptions('PagedKvCache.write', options, ['rotary']);
    return appendTokens('PagedKvCache.write', this, k, v, this.#counts, options.rotary);
  }

  /**
   * Forgets the tokens from position `lengths` on, as after speculation that was not accepted, and gives
   * back pages.
   *
   * @param lengths for every sequence, or one per row of the batch; shorter ones stay as they are
   */
  truncate(lengths: number | readonly number[]): void {
    const list = this.#perRow('truncate', 'lengths', lengths);
    this.#entries.forEach((entry, row) => {
      if (!entry) return;
      entry.length = Math.min(entry.length, list[row] as number);
      this.#pool.release(entry.pages.splice(this.#pagesFor(entry.length)));
    });
    this.#writeTable();
    this.#writeLengths();
  }

  /**
   * Row i continues what row `parents[i]` was, as beam search needs. Nothing is copied: rows with the same
   * parent share its pages.
   *
   * @param parents one per row of the batch; rows without a sequence may only be their own parents
   */
  reorder(parents: readonly number[]): void {
    const list = this.#perRow('reorder', 'parents', parents);
    for (const parent of list) this.#checkIndex('reorder', parent);
    const next = list.map((parent, row) => {
      if (parent === row && !this.#entries[row]) return null;
      const { pages, length } = this.#there('reorder', parent);
      return { pages: [...pages], length };
    });
    for (const entry of next) if (entry) this.#pool.share(entry.pages);
    this.#entries.forEach((entry, row) => {
      if (entry) this.#pool.release(entry.pages);
      this.#entries[row] = next[row] as Entry | null;
    });
    this.#writeTable();
    this.#writeLengths();
  }

  /** Frees the memory; pages that are another cache's go back to it. */
  dispose(): void {
    this.#entries.forEach((entry, row) => {
      if (entry) this.#pool.release(entry.pages);
      this.#entries[row] = null;
    });
    const own = [this.lengths, this.pageTable, this.#counts];
    for (const t of this.#shared ? own : [this.keys, this.values, ...own]) t.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  #pagesFor(length: number): number {
    return Math.ceil(length / this.pageSize);
  }

  /** Whether further tokens of a sequence go into a page that `holders` hold. */
  #copiesLast({ length }: Entry, holders: number): boolean {
    return length % this.pageSize !== 0 && holders > 1;
  }

  /** Free pages that further tokens need. */
  #needed(counts: readonly number[]): number {
    // Of pages that several sequences copy, the last one to hold them keeps the original.
    const holders = new Map<number, number>();
    let needed = 0;
    this.#entries.forEach((entry, row) => {
      const count = counts[row] as number;
      if (!entry || count === 0) return;
      needed += this.#pagesFor(entry.length + count) - entry.pages.length;
      const last = entry.pages.at(-1) ?? 0;
      const held = holders.get(last) ?? this.#pool.holders(last);
      if (!this.#copiesLast(entry, held)) return;
      needed++;
      holders.set(last, held - 1);
    });
    return needed;
  }

  /** Takes back what `advance` has counted. */
  #retreat(counts: readonly number[]): void {
    this.#entries.forEach((entry, row) => {
      if (!entry) return;
      entry.length -= counts[row] as number;
      this.#pool.release(entry.pages.splice(this.#pagesFor(entry.length)));
    });
    this.#writeTable();
  }

  #copyPage(from: number, to: number): void {
    noGrad(() =>
      tidy(() => {
        for (const t of [this.keys, this.values]) {
          assign(slice(t, 0, to, to + 1), slice(t, 0, from, from + 1));
        }
      }),
    );
  }

  #writeTable(): void {
    const { batch, pagesPerEntry } = this;
    const table = new Int32Array(batch * pagesPerEntry).fill(-1);
    this.#entries.forEach((entry, row) => {
      if (entry) table.set(entry.pages, row * pagesPerEntry);
    });
    this.pageTable.write(table);
  }

  #writeLengths(): void {
    this.lengths.write(Int32Array.from(this.#entries, (entry) => entry?.length ?? 0));
  }

  #place(operator: string, entry: Entry): number {
    const row = this.#entries.indexOf(null);
    if (row < 0) {
      throw new OutOfMemoryError(
        `PagedKvCache.${operator}: all ${this.batch} rows of the batch are taken`,
        {
          operator: `PagedKvCache.${operator}`,
          remedy: 'Free a sequence, or make the cache with a larger batch',
        },
      );
    }
    this.#entries[row] = entry;
    return row;
  }

  #checkIndex(operator: string, entry: number): void {
    if (Number.isInteger(entry) && entry >= 0 && entry < this.batch) return;
    throw new ArgumentError(
      'ERR_VALUE',
      `PagedKvCache.${operator}`,
      'entry',
      show(entry),
      `Use a row of the batch, 0 to ${this.batch - 1}`,
    );
  }

  #there(operator: string, entry: number): Entry {
    this.#checkIndex(operator, entry);
    const found = this.#entries[entry];
    if (found) return found;
    throw new ArgumentError(
      'ERR_VALUE',
      `PagedKvCache.${operator}`,
      'entry',
      `${entry}, where there is no sequence`,
      'Use a row that admit() or fork() has returned',
    );
  }

  #perRow(operator: string, argument: string, given: number | readonly number[]): number[] {
    const rows: readonly number[] = Array.isArray(given) ? given : [];
    const list = typeof given === 'number' ? new Array<number>(this.batch).fill(given) : [...rows];
    if (list.length === this.batch && list.every((n) => Number.isSafeInteger(n) && n >= 0)) {
      return list;
    }
    throw new ArgumentError(
      'ERR_VALUE',
      `PagedKvCache.${operator}`,
      argument,
      show(given),
      `Use a whole number from 0 on, or one for each of the ${this.batch} rows`,
    );
  }

  /** Counts per row: none where there is no sequence, and no more than a row of the table can hold. */
  #countsOf(operator: string, given: number | readonly number[]): number[] {
    const list = this.#perRow(operator, 'counts', given);
    const capacity = this.pagesPerEntry * this.pageSize;
    this.#entries.forEach((entry, row) => {
      const count = list[row] as number;
      const length = entry?.length ?? 0;
      if (!entry && typeof given === 'number') list[row] = 0;
      else if ((!entry && count > 0) || length + count > capacity) {
        throw new ArgumentError(
          'ERR_VALUE',
          `PagedKvCache.${operator}`,
          'counts',
          `${count} in row ${row}`,
          entry
            ? `It holds ${length} of at most ${capacity} tokens; make the cache with more pagesPerEntry`
            : 'There is no sequence; use 0, or admit one',
        );
      }
    });
    return list;
  }
}
