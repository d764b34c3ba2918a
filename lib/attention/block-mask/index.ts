/** Block-sparse masks. */
import { type Nested, tensor } from '../../core/create.js';
import { field, nativeOperator, show } from '../../core/declare.js';
import { type Device, device as deviceOf } from '../../core/device.js';
import { ArgumentError } from '../../core/errors.js';
import {
  checkFunction,
  checkInstance,
  checkList,
  checkNumbers,
  checkObject,
  checkOptions,
} from '../../core/options.js';
import { keep } from '../../core/scope.js';
import { Tensor } from '../../core/tensor.js';
import {
  type Blocks,
  build,
  bytesOf,
  columnsOf,
  complement,
  fromMatrix,
  hidden,
  intersection,
  listsOf,
  type MaskShape,
  pairsOf,
  partial,
  places,
  rowsOf,
  slotsOf,
  union,
  whole,
} from './blocks.js';
import { type BlockLists, blockLists } from './lists.js';
import {
  type BlockMaskOptions,
  matrixOf,
  optionNames,
  type PatternOptions,
  shapeOf,
} from './options.js';
import * as patterns from './patterns.js';
import { maskSvg } from './picture.js';
import { compile, type MaskPredicate } from './predicate.js';

export type { BlockLists } from './lists.js';
export type { BlockMaskOptions, PatternOptions } from './options.js';

export { type MaskPlaces, type MaskPredicate, MaskValue } from './predicate.js';

const evaluateCall = nativeOperator('blockMaskEvaluate', {
  program: field.input,
  blocks: field.optional,
  queries: field.integer,
  keys: field.integer,
  block: field.integer,
  batch: field.integer,
  heads: field.integer,
  states: field.output,
  bits: field.output,
});

/** @internal The fields of the native operators. */
export interface MaskTensors {
  maskRows: Tensor | null;
  maskRowBlocks: Tensor | null;
  maskColumns: Tensor | null;
  maskColumnBlocks: Tensor | null;
  maskBits: Tensor | null;
  maskBlock: number;
}

/** The options of a named pattern, before they are taken apart. */
function given<T>(name: string, options: T): T {
  checkObject(`BlockMask.${name}`, 'options', options, '{ queries } and what the pattern takes');
  return options;
}

/**
 * Which pairs of queries and keys attention computes, block by block: blocks that are hidden cost
 * nothing, those that are partly seen hold a bit per pair, and no matrix of N x M is ever stored. Made
 * once and used by any number of calls; its tensors survive `tidy`, `dispose()` frees them.
 *
 * @example
 * const mask = BlockMask.where({ queries: 256 }, ({ i, j }) => j.atMost(i).and(i.minus(j).below(96)));
 * const x = normal([1, 2, 256, 16]);
 * const y = attention(x, x, x, { blockMask: mask });
 * mask.dispose();
 */
export class BlockMask implements MaskShape {
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly blockSize: number;
  readonly device: Device;
  readonly #states: Uint8Array;
  readonly #bits: Tensor | null;
  readonly #lists: Record<
    'maskRows' | 'maskRowBlocks' | 'maskColumns' | 'maskColumnBlocks',
    Tensor
  >;
  #bitsOnHost: Uint8Array | null;
  #slots: Int32Array | null = null;

  /** @param bits a tensor on `device` that becomes the mask's own, or its content */
  private constructor(
    shape: MaskShape,
    device: Device,
    states: Uint8Array,
    bits: Uint8Array | Tensor,
  ) {
    ({
      batch: this.batch,
      heads: this.heads,
      queries: this.queries,
      keys: this.keys,
      blockSize: this.blockSize,
    } = shape);
    this.device = device;
    this.#states = states;
    this.#bitsOnHost = bits instanceof Tensor ? null : bits;
    if (bits instanceof Tensor) {
      this.#bits = keep(bits);
    } else if (bits.length === 0) {
      this.#bits = null;
    } else {
      const slots = [bits.length / bytesOf(shape), shape.blockSize, shape.blockSize / 8];
      this.#bits = keep(tensor(bits, { shape: slots, device }));
    }
    const list = (side: 'rows' | 'columns'): [Tensor, Tensor] => {
      const { starts, blocks } = listsOf({ ...shape, states, bits: new Uint8Array(0) }, side);
      const lines = starts.length / (shape.batch * shape.heads);
      return [
        keep(tensor(starts, { shape: [shape.batch, shape.heads, lines], device })),
        keep(tensor(blocks, { shape: [blocks.length / 2, 2], device })),
      ];
    };
    const [maskRows, maskRowBlocks] = list('rows');
    const [maskColumns, maskColumnBlocks] = list('columns');
    this.#lists = { maskRows, maskRowBlocks, maskColumns, maskColumnBlocks };
  }

  /**
   * The pairs that a predicate holds for. It is written with the methods of its arguments and evaluated
   * natively on the mask's device, for every pair once; this call waits for what it says of whole blocks.
   *
   * @throws ArgumentError for sizes that do not fit, or a predicate that is not made of its arguments
   * @example
   * // Documents of 100 tokens, each seen by itself and by a global first token.
   * const mask = BlockMask.where({ queries: 300, blockSize: 32 }, ({ i, j }) =>
   *   i.over(100).equals(j.over(100)).or(j.equals(0)),
   * );
   */
  static where(options: BlockMaskOptions, predicate: MaskPredicate): BlockMask {
    const [shape, device] = shapeOf('BlockMask.where', options);
    checkFunction('BlockMask.where', predicate, 'predicate');
    const { queries, keys, batch, heads, blockSize: block } = shape;
    const program = compile(predicate, queries, keys, device);
    const sizes = { program, queries, keys, block, batch, heads };
    const map = evaluateCall(sizes).states;
    const states = map.dataSync() as Uint8Array;
    map.dispose();
    const list: number[] = [];
    for (const place of places(shape)) {
      if (states[place.index] !== partial) continue;
      list.push(place.batch, place.head, place.row, place.column);
    }
    const blocks = tensor(Int32Array.from(list), { shape: [list.length / 4, 4], device });
    const bits = list.length === 0 ? new Uint8Array(0) : evaluateCall({ ...sizes, blocks }).bits;
    for (const t of [program, blocks]) t.dispose();
    return new BlockMask(shape, device, Uint8Array.from(states), bits);
  }

  /**
   * Whole blocks, by a layout of ones and zeros.
   *
   * @param layout [rows, columns], [heads, rows, columns] or [batch, heads, rows, columns] of blocks
   * @throws ArgumentError when its shape does not follow from the sizes
   * @example
   * const mask = BlockMask.fromLayout([[1, 0], [1, 1]], { queries: 128, blockSize: 64 });
   */
  static fromLayout(layout: Tensor | Nested, options: BlockMaskOptions): BlockMask {
    const sides = (m: MaskShape) => [rowsOf(m), columnsOf(m)];
    const [shape, device, data] = matrixOf('BlockMask.fromLayout', { layout }, options, sides);
    const states = Uint8Array.from(data, (x) => (Number(x) === 0 ? hidden : whole));
    return new BlockMask(shape, device, states, new Uint8Array(0));
  }

  /**
   * Pair by pair, by a matrix that is not zero where a query sees a key; for masks that exist in that
   * form already. `where` and the patterns never store such a matrix.
   *
   * @param pairs [N, M], [heads, N, M] or [batch, heads, N, M]
   * @throws ArgumentError when its shape is another
   * @example
   * const mask = BlockMask.fromPairs(tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]]), { queries: 3 });
   */
  static fromPairs(pairs: Tensor | Nested, options: BlockMaskOptions): BlockMask {
    const sides = (m: MaskShape) => [m.queries, m.keys];
    const [shape, device, data] = matrixOf('BlockMask.fromPairs', { pairs }, options, sides);
    const { states, bits } = fromMatrix(shape, (at) => Number(data[at]) !== 0);
    return new BlockMask(shape, device, states, bits);
  }

  /**
   * Whole blocks, by the index arrays of a block-sparse row matrix: of row r the columns
   * `indices[indptr[r]]` to before `indices[indptr[r + 1]]`.
   *
   * @throws ArgumentError when they point outside the matrix
   */
  static fromBsr(
    indptr: ArrayLike<number>,
    indices: ArrayLike<number>,
    options: Omit<BlockMaskOptions, 'heads' | 'batch'>,
  ): BlockMask {
    const [shape, device] = shapeOf('BlockMask.fromBsr', options);
    const [rows, columns] = [rowsOf(shape), columnsOf(shape)];
    const refuse = (argument: string, value: unknown, remedy: string): never => {
      throw new ArgumentError('ERR_VALUE', 'BlockMask.fromBsr', argument, show(value), remedy);
    };
    if (indptr.length !== rows + 1 || indptr[0] !== 0 || indptr[rows] !== indices.length) {
      refuse(
        'indptr',
        [...Array.from(indptr).slice(0, 4)],
        `Use ${rows + 1} numbers from 0 to the number of indices, ${indices.length}`,
      );
    }
    const states = new Uint8Array(rows * columns);
    for (let row = 0; row < rows; row++) {
      const [from, to] = [indptr[row] as number, indptr[row + 1] as number];
      if (!(to >= from)) refuse('indptr', to, 'It must ascend');
      for (let at = from; at < to; at++) {
        const column = indices[at] as number;
        if (!Number.isInteger(column) || column < 0 || column >= columns) {
          refuse('indices', column, `Use columns from 0 to ${columns - 1}`);
        }
        states[row * columns + column] = whole;
      }
    }
    return new BlockMask(shape, device, states, new Uint8Array(0));
  }

  /**
   * One mask per head, from masks with a single head each.
   *
   * @throws ArgumentError when their sizes differ
   */
  static perHead(masks: readonly BlockMask[]): BlockMask {
    checkList('BlockMask.perHead', 'masks', masks, 'masks');
    for (const m of masks) checkInstance('BlockMask.perHead', 'masks', m, BlockMask);
    const [first] = masks;
    if (!first || masks.some((m) => m.heads !== 1 || m.batch !== 1)) {
      throw new ArgumentError(
        'ERR_VALUE',
        'BlockMask.perHead',
        'masks',
        `${masks.length} masks`,
        'Give masks of one head and one batch entry',
      );
    }
    for (const m of masks) first.#checkSameSizes('BlockMask.perHead', m);
    const all = masks.map((m) => m.#blocks());
    const slots = all.map((m) => slotsOf(m.states));
    const count = first.#states.length;
    const joined = build({ ...first.#shape(), heads: masks.length }, ({ head, index }) => {
      const [m, at] = [all[head] as Blocks, index - head * count];
      const state = m.states[at] as number;
      if (state !== partial) return state;
      const slot = (slots[head] as Int32Array)[at] as number;
      return m.bits.subarray(slot * bytesOf(m), (slot + 1) * bytesOf(m));
    });
    return BlockMask.#of(joined, first.device);
  }

  /** Keys up to `left` before and `right` (default 0) after a query's position. */
  static local(options: PatternOptions & { left: number; right?: number }): BlockMask {
    const { left, right = 0, ...rest } = given('local', options);
    return BlockMask.#pattern('local', patterns.local(left, right), rest);
  }
  /** The last `stride` keys, and every `stride`-th one (Child et al. 2019, "strided"). */
  static strided(options: PatternOptions & { stride: number }): BlockMask {
    const { stride, ...rest } = given('strided', options);
    return BlockMask.#pattern('strided', patterns.strided(stride), rest);
  }
  /** The query's own stretch of `stride` keys, and the last `summary` of each (Child et al. 2019, "fixed"). */
  static fixed(options: PatternOptions & { stride: number; summary?: number }): BlockMask {
    const { stride, summary = 1, ...rest } = given('fixed', options);
    return BlockMask.#pattern('fixed', patterns.fixed(stride, summary), rest);
  }
  /** A window of `window` keys around a query, and tokens that see and are seen by all (Beltagy et al. 2020). */
  static longformer(
    options: PatternOptions & { window: number; globals?: readonly number[] },
  ): BlockMask {
    const { window, globals = [], ...rest } = given('longformer', options);
    return BlockMask.#pattern('longformer', patterns.longformer(window, globals), rest);
  }
  /**
   * Blocks (Zaheer et al. 2020): `window` (default 3) around the diagonal, the first `globals` (default 1)
   * rows and columns, `random` (default 2) more per row, drawn from `seed` (default 0).
   */
  static bigBird(
    options: PatternOptions & { window?: number; globals?: number; random?: number; seed?: number },
  ): BlockMask {
    const { window = 3, globals = 1, random = 2, seed = 0, ...rest } = given('bigBird', options);
    return BlockMask.#pattern('bigBird', patterns.bigBird(window, globals, random, seed), rest);
  }
  /** Blocks whose row and column differ in one binary digit at most (flat butterfly, Dao et al. 2022). */
  static butterfly(options: PatternOptions): BlockMask {
    return BlockMask.#pattern('butterfly', patterns.butterfly(), options);
  }

  static #pattern(name: string, pattern: patterns.Pattern, options: PatternOptions): BlockMask {
    checkOptions(`BlockMask.${name}`, options, [...optionNames, 'causal']);
    const { causal = false, ...rest } = options;
    if ('predicate' in pattern) {
      return BlockMask.where(rest, (p) =>
        causal ? pattern.predicate(p).and(p.j.atMost(p.at)) : pattern.predicate(p),
      );
    }
    const [shape, device] = shapeOf(`BlockMask.${name}`, rest);
    const mask = BlockMask.#of(pattern.blocks(shape), device);
    if (!causal) return mask;
    const past = BlockMask.where({ ...rest, heads: 1, batch: 1 }, ({ at, j }) => j.atMost(at));
    const both = mask.and(past);
    past.dispose();
    mask.dispose();
    return both;
  }

  static #of(blocks: Blocks, device: Device): BlockMask {
    return new BlockMask(blocks, device, blocks.states, blocks.bits);
  }

  /** Pairs that both masks show. A mask of one head (or batch entry) goes with one of several. */
  and(other: BlockMask): BlockMask {
    checkInstance('BlockMask.and', 'other', other, BlockMask);
    this.#checkSameSizes('BlockMask.and', other);
    return BlockMask.#of(intersection(this.#blocks(), other.#blocks()), this.device);
  }
  /** Pairs that either mask shows. */
  or(other: BlockMask): BlockMask {
    checkInstance('BlockMask.or', 'other', other, BlockMask);
    this.#checkSameSizes('BlockMask.or', other);
    return BlockMask.#of(union(this.#blocks(), other.#blocks()), this.device);
  }
  /** Pairs that this mask hides. */
  not(): BlockMask {
    return BlockMask.#of(complement(this.#blocks()), this.device);
  }

  /** The part of all pairs that is seen. */
  get density(): number {
    return pairsOf(this.#blocks()) / (this.batch * this.heads * this.queries * this.keys);
  }
  /** The part of all blocks that is computed. */
  get blockDensity(): number {
    return (
      this.#states.reduce((sum, state) => sum + Number(state !== hidden), 0) / this.#states.length
    );
  }

  /**
   * Whether a query sees a key.
   *
   * @throws ArgumentError for places outside the mask
   */
  sees(query: number, key: number, options: { head?: number; batch?: number } = {}): boolean {
    checkOptions('BlockMask.sees', options, ['head', 'batch']);
    const { head = 0, batch = 0 } = options;
    this.#checkPlace('BlockMask.sees', { query, key, head, batch });
    const size = this.blockSize;
    const [row, column] = [Math.floor(query / size), Math.floor(key / size)];
    const index = ((batch * this.heads + head) * rowsOf(this) + row) * columnsOf(this) + column;
    const state = this.#states[index];
    if (state !== partial) return state === whole;
    this.#slots ??= slotsOf(this.#states);
    const bit = (query % size) * size + (key % size);
    const byte = this.#hostBits()[(this.#slots[index] as number) * bytesOf(this) + (bit >> 3)];
    return (((byte as number) >> (bit & 7)) & 1) === 1;
  }

  /** The lists of other libraries, as new tensors on the mask's device. */
  toLists(): BlockLists {
    return blockLists(this.#blocks(), this.device);
  }

  /** Everything of it as tensors on the CPU, for a safetensors file; see {@link BlockMask.fromTensors}. */
  toTensors(): Record<'states' | 'bits' | 'lengths', Tensor> {
    const { batch, heads, queries, keys, blockSize } = this;
    const { bits } = this.#blocks();
    return {
      states: tensor(this.#states, { shape: [batch, heads, rowsOf(this), columnsOf(this)] }),
      bits: tensor(bits, { shape: [bits.length / bytesOf(this), blockSize, blockSize / 8] }),
      lengths: tensor(Int32Array.of(queries, keys)),
    };
  }

  /**
   * The mask that `toTensors` wrote.
   *
   * @throws ArgumentError when they do not fit together
   */
  static fromTensors(
    tensors: Readonly<Record<string, Tensor>>,
    options: { device?: Device | string } = {},
  ): BlockMask {
    const { states, bits, lengths } = tensors;
    if (!states || !bits || !lengths) {
      throw new ArgumentError(
        'ERR_VALUE',
        'BlockMask.fromTensors',
        'tensors',
        Object.keys(tensors).join(', '),
        "Pass what toTensors() gave: 'states', 'bits' and 'lengths'",
      );
    }
    const [queries = 0, keys = 0] = lengths.dataSync() as Int32Array;
    const [batch = 1, heads = 1] = states.shape;
    const blockSize = bits.shape[1] ?? 0;
    const [shape, device] = shapeOf('BlockMask.fromTensors', {
      ...{ queries, keys, batch, heads, blockSize },
      ...options,
    });
    const all = Uint8Array.from(states.dataSync() as Uint8Array);
    const count = all.reduce((sum, state) => sum + Number(state === partial), 0);
    const expected = [batch, heads, rowsOf(shape), columnsOf(shape)];
    const fits =
      `${states.shape}` === `${expected}` &&
      bits.shape[0] === count &&
      all.every((s) => s <= whole);
    if (!fits) {
      throw new ArgumentError(
        'ERR_SHAPE',
        'BlockMask.fromTensors',
        'states',
        `${show(states)} with bits ${show(bits)}`,
        `States of [${expected}] blocks, 0 to 2, have bits for each that is 1`,
      );
    }
    return new BlockMask(shape, device, all, Uint8Array.from(bits.dataSync() as Uint8Array));
  }

  /**
   * A picture of one head: a square per visible block, paler where it is partly seen.
   *
   * @param options.size its longer side in pixels, default 512
   */
  toSVG(options: { head?: number; batch?: number; size?: number } = {}): string {
    checkOptions('BlockMask.toSVG', options, ['head', 'batch', 'size']);
    const { head = 0, batch = 0, size = 512 } = options;
    checkNumbers('BlockMask.toSVG', { size }, 1);
    this.#checkPlace('BlockMask.toSVG', { query: 0, key: 0, head, batch });
    return maskSvg(this.#blocks(), batch, head, size);
  }

  /** The same mask on another device. */
  to(device: Device | string): BlockMask {
    return BlockMask.#of(this.#blocks(), deviceOf(device));
  }

  /** @internal What the kernels read. */
  tensors(): MaskTensors {
    return { ...this.#lists, maskBits: this.#bits, maskBlock: this.blockSize };
  }

  /** Frees the device's memory. */
  dispose(): void {
    for (const t of Object.values(this.#lists)) t.dispose();
    this.#bits?.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  #shape(): MaskShape {
    const { batch, heads, queries, keys, blockSize } = this;
    return { batch, heads, queries, keys, blockSize };
  }

  #blocks(): Blocks {
    return { ...this.#shape(), states: this.#states, bits: this.#hostBits() };
  }

  /** The bits, fetched from the device when first asked for. */
  #hostBits(): Uint8Array {
    this.#bitsOnHost ??= this.#bits
      ? Uint8Array.from(this.#bits.dataSync() as Uint8Array)
      : new Uint8Array(0);
    return this.#bitsOnHost;
  }

  #checkPlace(operator: string, place: Record<'query' | 'key' | 'head' | 'batch', number>): void {
    const { queries: query, keys: key, heads: head, batch } = this;
    for (const [name, limit] of Object.entries({ query, key, head, batch })) {
      const at = place[name as keyof typeof place];
      if (Number.isInteger(at) && at >= 0 && at < limit) continue;
      const remedy = `Use a whole number from 0 to ${limit - 1}`;
      throw new ArgumentError('ERR_VALUE', operator, name, show(at), remedy);
    }
  }

  #checkSameSizes(operator: string, other: BlockMask): void {
    const sizes = (m: BlockMask) => `${m.queries} by ${m.keys} in blocks of ${m.blockSize}`;
    const repeats = (a: number, b: number) => a === b || a === 1 || b === 1;
    if (
      sizes(this) === sizes(other) &&
      repeats(this.heads, other.heads) &&
      repeats(this.batch, other.batch)
    ) {
      return;
    }
    throw new ArgumentError(
      'ERR_SHAPE',
      operator,
      'other',
      `${sizes(other)}, ${other.batch} batch entries, ${other.heads} heads`,
      `It must be as the first, ${sizes(this)}, ${this.batch} batch entries, ${this.heads} heads`,
    );
  }
}
