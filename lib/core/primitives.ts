/** The few operators the core itself needs: filling, copying, adding gradients. */

import { field, nativeOperator, show } from './declare.js';
import { type Device, device } from './device.js';
import { type DType, dtypeIndex } from './dtype.js';
import { ArgumentError } from './errors.js';
import { checkOptions } from './options.js';
import type { Shape, Tensor } from './tensor.js';

/** Where and how a new tensor is made. */
export interface TensorOptions {
  /** Default `f32`. */
  dtype?: DType;
  /** Default `cpu`. */
  device?: Device | string;
}

const fillCall = nativeOperator('fill', {
  shape: field.integers,
  dtype: field.integer,
  value: field.number,
  y: field.output,
});

const copyCall = nativeOperator('copy', { x: field.input, dtype: field.integer, y: field.output });

const assignCall = nativeOperator('assign', { y: field.inout, x: field.input });

const accumulateCall = nativeOperator('accumulate', {
  a: field.input,
  b: field.input,
  y: field.output,
});

/**
 * @internal
 * @throws ArgumentError for a dtype that does not exist
 */
export function checkDtype(operator: string, dtype: DType): void {
  if (typeof dtype === 'string' && Object.hasOwn(dtypeIndex, dtype)) return;
  const remedy = "Use 'f32', 'f16', 'bf16', 'f64', 'i32' or 'u8'";
  throw new ArgumentError('ERR_OPTION', operator, 'dtype', show(dtype), remedy);
}

/**
 * A tensor with one value everywhere.
 *
 * @throws ArgumentError for a shape of other than whole numbers, and for unknown options
 *
 * @example
 * const half = full([2, 3], 0.5);
 */
export function full(shape: Shape, value: number, options: TensorOptions = {}): Tensor {
  checkOptions('full', options, ['dtype', 'device']);
  const { dtype = 'f32' } = options;
  checkDtype('full', dtype);
  return fillCall({ shape, dtype: dtypeIndex[dtype], value }, device(options.device), 'full').y;
}

/** @internal A contiguous copy of `x`, converted to `dtype`. Not recorded: `cast` in dense is. */
export function copy(x: Tensor, dtype: DType = x.dtype): Tensor {
  return copyCall({ x, dtype: dtypeIndex[dtype] }).y;
}

/** @internal Writes `x`, broadcast to the shape of `y`, into `y`. */
export function assign(y: Tensor, x: Tensor): void {
  assignCall({ y, x });
  y.storage.version++;
}

/** @internal a + b of one shape and dtype, contiguous. */
export function accumulate(a: Tensor, b: Tensor): Tensor {
  return accumulateCall({ a, b }).y;
}
