/** Comparisons: u8 masks, 1 where the relation holds. Not differentiable. */
import { field, nativeOperator } from '../core/declare.js';
import type { Tensor } from '../core/tensor.js';
import { type Operand, operandsOf } from './binary.js';

const compareCall = nativeOperator('compare', {
  a: field.optional,
  b: field.optional,
  value: field.number,
  kind: field.choice(
    'equal',
    'notEqual',
    'less',
    'lessEqual',
    'greater',
    'greaterEqual',
    'logicalAnd',
    'logicalOr',
  ),
  y: field.output,
});

function compare(kind: Parameters<typeof compareCall>[0]['kind'], a: Operand, b: Operand): Tensor {
  return compareCall(operandsOf(kind, a, b), undefined, kind).y;
}

/**
 * Where a = b, as u8, broadcasting. Operands have one dtype, or one is a number. NaN equals nothing.
 *
 * @example
 * equal(tensor([1, 2, 3]), 2); // 0, 1, 0
 */
export function equal(a: Operand, b: Operand): Tensor {
  return compare('equal', a, b);
}
/**
 * Where a differs from b; see {@link equal}.
 * @example
 * notEqual(tensor([1, 2]), 2); // 1, 0
 */
export function notEqual(a: Operand, b: Operand): Tensor {
  return compare('notEqual', a, b);
}
/**
 * Where a < b; see {@link equal}.
 * @example
 * less(tensor([1, 2]), 2); // 1, 0
 */
export function less(a: Operand, b: Operand): Tensor {
  return compare('less', a, b);
}
/**
 * Where a <= b; see {@link equal}.
 * @example
 * lessEqual(tensor([1, 2]), 1); // 1, 0
 */
export function lessEqual(a: Operand, b: Operand): Tensor {
  return compare('lessEqual', a, b);
}
/**
 * Where a > b; see {@link equal}.
 * @example
 * greater(tensor([1, 2]), 1); // 0, 1
 */
export function greater(a: Operand, b: Operand): Tensor {
  return compare('greater', a, b);
}
/**
 * Where a >= b; see {@link equal}.
 * @example
 * greaterEqual(tensor([1, 2]), tensor([2, 2])); // 0, 1
 */
export function greaterEqual(a: Operand, b: Operand): Tensor {
  return compare('greaterEqual', a, b);
}
/**
 * Where a and b are both other than 0, as u8, broadcasting.
 * @example
 * const x = tensor([1, 5, 9]);
 * logicalAnd(greater(x, 2), less(x, 8)); // 0, 1, 0
 */
export function logicalAnd(a: Operand, b: Operand): Tensor {
  return compare('logicalAnd', a, b);
}
/**
 * Where a or b is other than 0, as u8, broadcasting.
 * @example
 * const x = tensor([1, 5, 9]);
 * logicalOr(less(x, 2), greater(x, 8)); // 1, 0, 1
 */
export function logicalOr(a: Operand, b: Operand): Tensor {
  return compare('logicalOr', a, b);
}
/**
 * Where x is 0, as u8.
 * @example
 * logicalNot(tensor(new Uint8Array([1, 0]))); // 0, 1
 */
export function logicalNot(x: Tensor): Tensor {
  return compare('equal', x, 0);
}
