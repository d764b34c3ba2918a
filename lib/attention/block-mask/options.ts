/** What block masks are made for, checked. */
import { show } from '../../core/declare.js';
import { type Device, device as deviceOf } from '../../core/device.js';
import { ArgumentError } from '../../core/errors.js';
import { checkOptions } from '../../core/options.js';
import type { MaskShape } from './blocks.js';

/** What a `BlockMask` is made for. */
export interface BlockMaskOptions {
  /** N, the length of the sequence of queries. */
  queries: number;
  /** M. Default `queries`. */
  keys?: number;
  /** Queries and keys of a block: 16, 32, 64 or 128. Default 64. */
  blockSize?: number;
  /** Heads that differ; 1 (default) is for all. */
  heads?: number;
  /** Batch entries that differ; 1 (default) is for all. */
  batch?: number;
  /** Where attention will run. Default `cpu`. */
  device?: Device | string;
}

/** Options of the named patterns. */
export interface PatternOptions extends BlockMaskOptions {
  /** Hide what lies after a query's position, counted from the bottom right corner. Default false. */
  causal?: boolean;
}

/** @internal */
export const optionNames = ['queries', 'keys', 'blockSize', 'heads', 'batch', 'device'];

/** @internal The sizes of a mask and its device. */
export function shapeOf(operator: string, options: BlockMaskOptions): [MaskShape, Device] {
  checkOptions(operator, options, optionNames);
  const { queries, keys = queries, blockSize = 64, heads = 1, batch = 1 } = options;
  for (const [name, value] of Object.entries({ queries, keys, heads, batch })) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      name,
      show(value),
      'Use a whole number from 1 on',
    );
  }
  if (![16, 32, 64, 128].includes(blockSize)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'blockSize',
      show(blockSize),
      'Use 16, 32, 64 or 128',
    );
  }
  return [{ batch, heads, queries, keys, blockSize }, deviceOf(options.device)];
}
