/** What block masks are made for, checked. */
import { type Nested, tensor } from '../../core/create.js';
import { show } from '../../core/declare.js';
import { type Device, device as deviceOf } from '../../core/device.js';
import { ArgumentError } from '../../core/errors.js';
import { checkOptions, checkSizes } from '../../core/options.js';
import { Tensor } from '../../core/tensor.js';
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
  checkSizes(operator, { queries, keys, heads, batch });
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

/**
 * @internal The content of a matrix that says of blocks or pairs what is seen, for one head or with axes of
 * heads and batch entries before, checked.
 *
 * @param named the argument, under its name
 * @param sides the last two axes that it must have
 */
export function matrixOf(
  operator: string,
  named: Record<string, Tensor | Nested>,
  options: BlockMaskOptions,
  sides: (shape: MaskShape) => readonly number[],
): [MaskShape, Device, ArrayLike<unknown> & Iterable<unknown>] {
  const [[argument, given]] = Object.entries(named) as [[string, Tensor | Nested]];
  const made = !(given instanceof Tensor);
  const t = made ? tensor(given) : given;
  const [batch = 1, heads = 1] = [t.shape.at(-4), t.shape.at(-3)];
  const [shape, device] = shapeOf(operator, { ...options, batch, heads });
  const last = sides(shape);
  const fits = t.shape.length >= 2 && t.shape.length <= 4;
  if (!fits || last.some((size, i) => size !== t.shape.at(i - 2))) {
    const remedy = `Its last axes must be ${last.join(' by ')} for these lengths`;
    throw new ArgumentError('ERR_SHAPE', operator, argument, show(t), remedy);
  }
  const data = t.dataSync();
  if (made) t.dispose();
  return [shape, device, data];
}
