/** Block masks on the host: the state of every block, and the bits of those that are partial. */

/** States of blocks, as in `MaskBlock` in `cpp/ops/attention/block_mask.h`. */
export const hidden = 0;
export const partial = 1;
export const whole = 2;

/** Sizes of a mask; `batch` and `heads` of 1 stand for all. */
export interface MaskShape {
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly blockSize: number;
}

export interface Blocks extends MaskShape {
  /** [batch, heads, rows, columns] */
  readonly states: Uint8Array;
  /** [partial blocks in that order, blockSize, blockSize / 8]; bit c % 8 of byte c / 8 is column c. */
  readonly bits: Uint8Array;
}

export const rowsOf = (m: MaskShape): number => Math.ceil(m.queries / m.blockSize);
export const columnsOf = (m: MaskShape): number => Math.ceil(m.keys / m.blockSize);
export const bytesOf = (m: MaskShape): number => (m.blockSize * m.blockSize) / 8;

/** Per block the number of its bits, or -1. */
export function slotsOf(states: Uint8Array): Int32Array {
  let next = 0;
  return Int32Array.from(states, (state) => (state === partial ? next++ : -1));
}

/** The bits of a block that lie within the sequences. */
export function extentOf(m: MaskShape, row: number, column: number): Uint8Array {
  const bits = new Uint8Array(bytesOf(m));
  const rows = Math.min(m.blockSize, m.queries - row * m.blockSize);
  const columns = Math.min(m.blockSize, m.keys - column * m.blockSize);
  const width = m.blockSize / 8;
  const line = Uint8Array.from({ length: width }, (_, byte) => {
    const count = Math.min(8, Math.max(0, columns - 8 * byte));
    return (1 << count) - 1;
  });
  for (let r = 0; r < rows; r++) bits.set(line, r * width);
  return bits;
}

/** Where the blocks of a mask lie. */
export interface Place {
  batch: number;
  head: number;
  row: number;
  column: number;
  /** Its number among all. */
  index: number;
}

export function* places(m: MaskShape): Generator<Place> {
  let index = 0;
  for (let batch = 0; batch < m.batch; batch++) {
    for (let head = 0; head < m.heads; head++) {
      for (let row = 0; row < rowsOf(m); row++) {
        for (let column = 0; column < columnsOf(m); column++, index++) {
          yield { batch, head, row, column, index };
        }
      }
    }
  }
}

/**
 * A mask block by block: `decide` gives a state, or the bits of a block, which may turn out to hide or
 * to show all of it.
 */
export function build(m: MaskShape, decide: (place: Place) => number | Uint8Array): Blocks {
  const states = new Uint8Array(m.batch * m.heads * rowsOf(m) * columnsOf(m));
  const kept: Uint8Array[] = [];
  for (const place of places(m)) {
    const decided = decide(place);
    if (typeof decided === 'number') {
      states[place.index] = decided;
      continue;
    }
    const extent = extentOf(m, place.row, place.column);
    const bits = decided.map((byte, i) => byte & (extent[i] as number));
    if (bits.every((byte) => byte === 0)) continue;
    const all = bits.every((byte, i) => byte === extent[i]);
    states[place.index] = all ? whole : partial;
    if (!all) kept.push(bits);
  }
  const bits = new Uint8Array(kept.length * bytesOf(m));
  kept.forEach((block, i) => void bits.set(block, i * bytesOf(m)));
  return { ...m, states, bits };
}

/** A mask by what `sees` says of every element of [batch, heads, queries, keys]. */
export function fromMatrix(m: MaskShape, sees: (index: number) => boolean): Blocks {
  return build(m, ({ batch, head, row, column }) => {
    const bits = new Uint8Array(bytesOf(m));
    const [i, j] = [row * m.blockSize, column * m.blockSize];
    const matrix = (batch * m.heads + head) * m.queries;
    for (let r = 0; r < Math.min(m.blockSize, m.queries - i); r++) {
      const line = (matrix + i + r) * m.keys + j;
      for (let c = 0; c < Math.min(m.blockSize, m.keys - j); c++) {
        if (!sees(line + c)) continue;
        const byte = (r * m.blockSize + c) >> 3;
        bits[byte] = (bits[byte] as number) | (1 << (c & 7));
      }
    }
    return bits;
  });
}

/** Two masks block by block; one with a single batch entry or head stands for all of the other. */
export function combine(
  a: Blocks,
  b: Blocks,
  states: (x: number, y: number) => number | 'first' | 'second' | 'bits',
  bytes: (x: number, y: number) => number,
): Blocks {
  const shape = {
    ...a,
    batch: Math.max(a.batch, b.batch),
    heads: Math.max(a.heads, b.heads),
  };
  const slots = [slotsOf(a.states), slotsOf(b.states)] as const;
  const indexIn = (m: Blocks, { batch, head, row, column }: Place) =>
    (((m.batch === 1 ? 0 : batch) * m.heads + (m.heads === 1 ? 0 : head)) * rowsOf(m) + row) *
      columnsOf(m) +
    column;
  const size = bytesOf(shape);
  const bitsIn = (m: Blocks, which: 0 | 1, index: number) => {
    const at = (slots[which][index] as number) * size;
    return m.bits.subarray(at, at + size);
  };
  return build(shape, (place) => {
    const [i, j] = [indexIn(a, place), indexIn(b, place)];
    const decided = states(a.states[i] as number, b.states[j] as number);
    if (decided === 'first')
      return a.states[i] === partial ? bitsIn(a, 0, i) : (a.states[i] as number);
    if (decided === 'second')
      return b.states[j] === partial ? bitsIn(b, 1, j) : (b.states[j] as number);
    if (decided !== 'bits') return decided;
    const other = bitsIn(b, 1, j);
    return bitsIn(a, 0, i).map((byte, at) => bytes(byte, other[at] as number));
  });
}

export function intersection(a: Blocks, b: Blocks): Blocks {
  return combine(
    a,
    b,
    (x, y) =>
      x === hidden || y === hidden
        ? hidden
        : x === whole
          ? 'second'
          : y === whole
            ? 'first'
            : 'bits',
    (x, y) => x & y,
  );
}

export function union(a: Blocks, b: Blocks): Blocks {
  return combine(
    a,
    b,
    (x, y) =>
      x === whole || y === whole
        ? whole
        : x === hidden
          ? 'second'
          : y === hidden
            ? 'first'
            : 'bits',
    (x, y) => x | y,
  );
}

export function complement(m: Blocks): Blocks {
  const slots = slotsOf(m.states);
  const size = bytesOf(m);
  return build(m, ({ index }) => {
    const state = m.states[index];
    if (state !== partial) return state === whole ? hidden : whole;
    const at = (slots[index] as number) * size;
    return m.bits.subarray(at, at + size).map((byte) => byte ^ 255);
  });
}

/** Pairs that are seen. */
export function pairsOf(m: Blocks): number {
  const ones = Uint8Array.from({ length: 256 }, (_, byte) =>
    [...byte.toString(2)].reduce((sum, digit) => sum + Number(digit), 0),
  );
  let pairs = m.bits.reduce((sum, byte) => sum + (ones[byte] as number), 0);
  for (const { row, column, index } of places(m)) {
    if (m.states[index] !== whole) continue;
    const rows = Math.min(m.blockSize, m.queries - row * m.blockSize);
    pairs += rows * Math.min(m.blockSize, m.keys - column * m.blockSize);
  }
  return pairs;
}

/** The lists that kernels walk: starts [batch, heads, lines + 1], then [other side, slot] of each block. */
export function listsOf(
  m: Blocks,
  side: 'rows' | 'columns',
): { starts: Int32Array; blocks: Int32Array } {
  const [rows, columns] = [rowsOf(m), columnsOf(m)];
  const [lines, across] = side === 'rows' ? [rows, columns] : [columns, rows];
  const slots = slotsOf(m.states);
  const starts = new Int32Array(m.batch * m.heads * (lines + 1));
  const blocks: number[] = [];
  for (let head = 0, at = 0; head < m.batch * m.heads; head++) {
    for (let line = 0; line < lines; line++) {
      starts[at++] = blocks.length / 2;
      for (let other = 0; other < across; other++) {
        const [row, column] = side === 'rows' ? [line, other] : [other, line];
        const index = (head * rows + row) * columns + column;
        if (m.states[index] !== hidden) blocks.push(other, slots[index] as number);
      }
    }
    starts[at++] = blocks.length / 2;
  }
  return { starts, blocks: Int32Array.from(blocks) };
}
