/** Pages for the keys and values of all layers of a model. */
import { show } from '../core/declare.js';
import type { Device } from '../core/device.js';
import type { DType } from '../core/dtype.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions, checkSizes } from '../core/options.js';
import { PagedKvCache } from './paged-kv-cache.js';

/** What a {@link KvPages} is made for. */
export interface KvPagesOptions {
  /** Pages of each layer, for all sequences together. */
  pages: number;
  /** Tokens of a page, from 1 on. Default 16. */
  pageSize?: number;
}

/** What a layer writes into pages. */
interface Rows {
  readonly heads: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly dtype: DType;
  readonly device: Device;
}

/**
 * Pages that decoding states of one model share: each takes pages as its sequences grow and gives them back
 * when it is disposed of, so that memory is bounded by what all of them hold together, not by the longest
 * text that each could become. A {@link PagedKvCache} for every layer is made when the first state needs it.
 *
 * @example
 * const model = new TransformerLM({ vocabSize: 256, dModel: 32, layers: 2, heads: 2 }).eval();
 * using pages = new KvPages({ pages: 8, pageSize: 16 });
 * const texts = [generate(model, [72, 105], { pages }), generate(model, [72, 111], { pages })];
 * for (const text of texts) console.log((await text.next()).value, pages.freePages);
 * for (const text of texts) await text.return(); // left early
 * console.log(pages.freePages); // 8
 */
export class KvPages {
  readonly pages: number;
  readonly pageSize: number;
  readonly #caches = new Map<object, PagedKvCache>();

  /** @throws ArgumentError for a misspelt option or sizes that are not whole numbers from 1 on */
  constructor(options: KvPagesOptions) {
    checkOptions('KvPages', options, ['pages', 'pageSize']);
    const { pages, pageSize = 16 } = options;
    checkSizes('KvPages', { pages, pageSize });
    this.pages = pages;
    this.pageSize = pageSize;
  }

  /** Pages that no sequence holds, in the layer that has the fewest. */
  get freePages(): number {
    let free = this.pages;
    for (const cache of this.#caches.values()) free = Math.min(free, cache.freePages);
    return free;
  }

  /** Memory of all pages, taken and free, in bytes. */
  get byteLength(): number {
    let bytes = 0;
    for (const { keys, values } of this.#caches.values()) {
      bytes += keys.byteLength + values.byteLength;
    }
    return bytes;
  }

  /**
   * @internal A cache of `batch` sequences of at most `capacity` tokens, empty so far, in the pages of a layer.
   *
   * @param layer whose pages they are
   * @throws ArgumentError when its rows are not what they were when these pages were made
   */
  cacheFor(layer: object, batch: number, capacity: number, rows: Rows): PagedKvCache {
    const { pages, pageSize } = this;
    let all = this.#caches.get(layer);
    if (!all) {
      all = new PagedKvCache({ batch: 1, pages, pageSize, pagesPerEntry: 1, ...rows });
      this.#caches.set(layer, all);
    }
    const { keys } = all;
    if (keys.dtype !== rows.dtype || keys.device !== rows.device) {
      const remedy = `The model is now in ${rows.dtype} on ${rows.device.name}: make new ones for it`;
      throw new ArgumentError('ERR_VALUE', 'KvPages', 'pages', show(keys), remedy);
    }
    const cache = all.beside({ batch, pagesPerEntry: Math.ceil(capacity / pageSize) });
    for (let row = 0; row < batch; row++) cache.admit();
    return cache;
  }

  /** Frees the memory. */
  dispose(): void {
    for (const cache of this.#caches.values()) cache.dispose();
    this.#caches.clear();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
