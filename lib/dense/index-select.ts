/** Slices chosen by ids, and table lookup. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { axisOf, reshape } from '../core/views.js';
import { notEqual } from './compare.js';
import { discard } from './temporary.js';
import { where } from './where.js';

const indexSelectCall = nativeOperator('indexSelect', {
  x: field.input,
  axis: field.integer,
  ids: field.input,
  y: field.output,
});

const indexSelectBackwardCall = nativeOperator('indexSelectBackward', {
  gradY: field.input,
  axis: field.integer,
  ids: field.input,
  length: field.integer,
  skip: field.integer,
  gradX: field.output,
});

interface State {
  axis: number;
  length: number;
  skip: number;
}

type Select = (x: Tensor, axis: number, ids: Tensor, skip: number) => Tensor;

function selection(name: string): Select {
  return defineOperator({
    name,
    composed: true,
    forward(ctx: Context<State>, x: Tensor, axis: number, ids: Tensor, skip: number): Tensor {
      const { y } = indexSelectCall({ x, axis, ids }, undefined, name);
      ctx.state = { axis, length: x.shape[axis] as number, skip };
      ctx.save(ids);
      return y;
    },
    backward(ctx, grad) {
      const [ids] = ctx.saved() as [Tensor];
      return [grad && placeOperator(grad, ids, ctx.state)];
    },
  });
}

/** The adjoint: slices of a gradient added to where they were read. */
const placeOperator: (gradY: Tensor, ids: Tensor, state: State) => Tensor = defineOperator({
  name: 'indexSelectBackward',
  composed: true,
  forward(ctx: Context<State>, gradY: Tensor, ids: Tensor, state: State): Tensor {
    ctx.state = state;
    ctx.save(ids);
    return indexSelectBackwardCall({ gradY, ids, ...state }).gradX;
  },
  backward(ctx, grad) {
    if (!grad) return [null];
    const { axis, skip } = ctx.state;
    const [ids] = ctx.saved() as [Tensor];
    const picked = selectOperator(grad, axis, ids, -1);
    if (skip < 0) return [picked];
    // Skipped ids took no part.
    const used = notEqual(ids, skip);
    const after = new Array<number>(grad.rank - axis - 1).fill(1);
    const mask = reshape(used, [...ids.shape, ...after]);
    const result = where(mask, picked, 0);
    discard(used, mask, picked);
    return [result];
  },
});

const selectOperator = selection('indexSelect');
const embeddingOperator = selection('embedding');

/**
 * Slices of `x` along `axis` in the order of `ids`; the axes of `ids` replace that axis. The gradient of
 * repeated slices adds up in a fixed order.
 *
 * @param ids i32 of any shape
 * @returns poisoned with an OperatorError that names the id when one is out of range; on a GPU, which
 *   cannot stop for it, NaN there (-1 in integers)
 * @throws ArgumentError for ids of another dtype or an axis that does not exist
 * @example
 * indexSelect(tensor([[1, 2], [3, 4]]), 0, tensor(new Int32Array([1, 1, 0]))); // [[3, 4], [3, 4], [1, 2]]
 */
export function indexSelect(x: Tensor, axis: number, ids: Tensor): Tensor {
  const at = axisOf('indexSelect', 'axis', axis, asTensor('indexSelect', 'x', x).rank);
  return selectOperator(x, at, ids, -1);
}

/**
 * @internal The adjoint of {@link indexSelect}: slices of `y` added, in their order, to where `ids` say along an axis
 * of `length`; 0 elsewhere.
 */
export function addSlices(y: Tensor, axis: number, ids: Tensor, length: number): Tensor {
  return placeOperator(y, ids, { axis, length, skip: -1 });
}

/**
 * Rows of a table: [V, D] and ids [...] give [..., D].
 *
 * @param weight [V, D]
 * @param ids i32 of any shape, from 0 to V - 1
 * @param options.paddingIndex a row that gets no gradient
 * @returns poisoned with an OperatorError that names the id when one is out of range; on a GPU, which
 *   cannot stop for it, NaN there (-1 in integers)
 * @throws ArgumentError for ids of another dtype or a table that is not a matrix
 * @example
 * embedding(tensor([[1, 2], [3, 4]]), tensor(new Int32Array([1, 0, 1]))); // [[3, 4], [1, 2], [3, 4]]
 */
export function embedding(
  weight: Tensor,
  ids: Tensor,
  options: { paddingIndex?: number | null } = {},
): Tensor {
  checkOptions('embedding', options, ['paddingIndex']);
  if (asTensor('embedding', 'weight', weight).rank !== 2) {
    throw new ArgumentError(
      'ERR_RANK',
      'embedding',
      'weight',
      weight.toString(),
      'It must have 2 axes: one row per id',
    );
  }
  const rows = weight.shape[0] as number;
  const padding = options.paddingIndex ?? -1;
  if (padding !== -1 && !(Number.isInteger(padding) && padding >= 0 && padding < rows)) {
    throw new ArgumentError(
      'ERR_OPTION',
      'embedding',
      'paddingIndex',
      show(padding),
      `Use a row of the table, from 0 to ${rows - 1}`,
    );
  }
  return embeddingOperator(weight, 0, ids, padding);
}
