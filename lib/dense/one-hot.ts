import { field, nativeOperator, show } from '../core/declare.js';
import { type DType, dtypeIndex } from '../core/dtype.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const oneHotCall = nativeOperator('oneHot', {
  ids: field.input,
  classes: field.integer,
  dtype: field.integer,
  y: field.output,
});

/**
 * 1 at the place that each id names on a new last axis, 0 elsewhere.
 *
 * @param ids i32 of any shape, from 0 to classes - 1
 * @param options.dtype of the result. Default f32
 * @returns poisoned with an OperatorError that names the id when one is out of range; on a GPU, which
 *   cannot stop for it, a row of NaN (-1 in i32, 255 in u8)
 * @throws ArgumentError for ids of another dtype, or an unknown dtype
 * @example
 * oneHot(tensor(new Int32Array([2, 0])), 3); // [[0, 0, 1], [1, 0, 0]]
 */
export function oneHot(ids: Tensor, classes: number, options: { dtype?: DType } = {}): Tensor {
  checkOptions('oneHot', options, ['dtype']);
  const dtype = dtypeIndex[options.dtype ?? 'f32'];
  if (dtype === undefined) {
    throw new ArgumentError(
      'ERR_OPTION',
      'oneHot',
      'dtype',
      show(options.dtype),
      "Use 'f32', 'f16', 'bf16', 'f64', 'i32' or 'u8'",
    );
  }
  return oneHotCall({ ids, classes, dtype }).y;
}
