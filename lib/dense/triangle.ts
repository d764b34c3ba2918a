/** Triangles of matrices. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import type { Tensor } from '../core/tensor.js';

const triangleCall = nativeOperator('triangle', {
  x: field.input,
  diagonal: field.integer,
  upper: field.flag,
  y: field.output,
});

const triangleOperator: (x: Tensor, diagonal: number, upper: boolean) => Tensor = defineOperator({
  name: 'triangle',
  composed: true,
  forward(ctx: Context<[number, boolean]>, x: Tensor, diagonal: number, upper: boolean): Tensor {
    ctx.state = [diagonal, upper];
    return triangleCall({ x, diagonal, upper }).y;
  },
  backward(ctx, grad) {
    return [grad && triangleOperator(grad, ...ctx.state)];
  },
});

/**
 * The lower triangle of each matrix (last two axes): elements with column - row <= diagonal, 0 elsewhere.
 * Of ones in u8 it is a causal mask.
 *
 * @throws ArgumentError for fewer than 2 axes
 * @example
 * tril(ones([2, 2])); // [[1, 0], [1, 1]]
 */
export function tril(x: Tensor, diagonal = 0): Tensor {
  return triangleOperator(x, diagonal, false);
}

/**
 * The upper triangle of each matrix: elements with column - row >= diagonal; see {@link tril}.
 * @example
 * triu(ones([2, 2]), 1); // [[0, 1], [0, 0]]
 */
export function triu(x: Tensor, diagonal = 0): Tensor {
  return triangleOperator(x, diagonal, true);
}
