/** The lists of blocks that other libraries take. */
import { tensor } from '../../core/create.js';
import type { Device } from '../../core/device.js';
import type { Tensor } from '../../core/tensor.js';
import { type Blocks, columnsOf, partial, places, rowsOf, whole } from './blocks.js';

/**
 * The lists that FlexAttention and its kin take, i32: of every row of blocks the partial and the full
 * columns, and the transpose. Counts are [B, H, rows], indices [B, H, rows, columns], ascending, with 0
 * beyond the count.
 */
export interface BlockLists {
  kvNumBlocks: Tensor;
  kvIndices: Tensor;
  fullKvNumBlocks: Tensor;
  fullKvIndices: Tensor;
  qNumBlocks: Tensor;
  qIndices: Tensor;
  fullQNumBlocks: Tensor;
  fullQIndices: Tensor;
}

/** @internal New tensors on a device. */
export function blockLists(m: Blocks, device: Device): BlockLists {
  const { batch, heads, states } = m;
  const make = (side: 'rows' | 'columns', wanted: number): [Tensor, Tensor] => {
    const [lines, across] = side === 'rows' ? [rowsOf(m), columnsOf(m)] : [columnsOf(m), rowsOf(m)];
    const counts = new Int32Array(batch * heads * lines);
    const indices = new Int32Array(counts.length * across);
    for (const { batch: b, head, row, column, index } of places(m)) {
      if (states[index] !== wanted) continue;
      const [line, other] = side === 'rows' ? [row, column] : [column, row];
      const at = (b * heads + head) * lines + line;
      const count = counts[at] as number;
      indices[at * across + count] = other;
      counts[at] = count + 1;
    }
    return [
      tensor(counts, { shape: [batch, heads, lines], device }),
      tensor(indices, { shape: [batch, heads, lines, across], device }),
    ];
  };
  const [kvNumBlocks, kvIndices] = make('rows', partial);
  const [fullKvNumBlocks, fullKvIndices] = make('rows', whole);
  const [qNumBlocks, qIndices] = make('columns', partial);
  const [fullQNumBlocks, fullQIndices] = make('columns', whole);
  return {
    ...{ kvNumBlocks, kvIndices, fullKvNumBlocks, fullKvIndices },
    ...{ qNumBlocks, qIndices, fullQNumBlocks, fullQIndices },
  };
}
