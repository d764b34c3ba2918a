/** Views: other shapes of the same memory, recorded on the tape. Negative axes count from the end. */
import { defineOperator } from './autograd/define.js';
import type { Context } from './autograd/graph.js';
import { asTensor, show } from './declare.js';
import { ArgumentError } from './errors.js';
import { checkLengths } from './options.js';
import { assign, copy, full } from './primitives.js';
import { rowMajor, type Shape, type Tensor } from './tensor.js';

/** @internal Checks an axis and makes it non-negative. */
export function axisOf(operator: string, argument: string, axis: number, rank: number): number {
  const at = Number.isInteger(axis) ? (axis < 0 ? axis + rank : axis) : -1;
  if (at < 0 || at >= rank) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      argument,
      show(axis),
      rank === 0 ? 'A scalar has no axes' : `Use an axis from ${-rank} to ${rank - 1}`,
    );
  }
  return at;
}

/** Strides of `x` for `shape` when that needs no copy, else null. */
function viewStrides(x: Tensor, shape: Shape): number[] | null {
  if (x.isContiguous) return rowMajor(shape);
  const strides = new Array<number>(shape.length).fill(0);
  let from = 0;
  let to = 0;
  // Groups of axes with equal products must be dense within themselves.
  while (from < x.rank || to < shape.length) {
    let a = x.shape[from] ?? 1;
    let b = shape[to] ?? 1;
    const fromStart = from++;
    const toStart = to++;
    while (a !== b) {
      if (a < b) a *= x.shape[from++] ?? Number.NaN;
      else b *= shape[to++] ?? Number.NaN;
      if (Number.isNaN(a) || Number.isNaN(b)) return null;
    }
    const axes: number[] = [];
    for (let i = fromStart; i < Math.min(from, x.rank); i++) if (x.shape[i] !== 1) axes.push(i);
    for (let i = 0; i + 1 < axes.length; i++) {
      const [p, q] = [axes[i] as number, axes[i + 1] as number];
      if (x.strides[p] !== (x.strides[q] as number) * (x.shape[q] as number)) return null;
    }
    const last = axes.at(-1);
    let step = last === undefined ? 1 : (x.strides[last] as number);
    for (let i = Math.min(to, shape.length) - 1; i >= toStart; i--) {
      strides[i] = step;
      step *= shape[i] as number;
    }
  }
  return strides;
}

const reshapeOperator = defineOperator({
  name: 'reshape',
  composed: true,
  forward(ctx: Context<Shape>, x: Tensor, shape: Shape): Tensor {
    ctx.state = x.shape;
    const strides = viewStrides(x, shape);
    if (strides) return x.viewAs(shape, strides, x.offset);
    const dense = copy(x);
    const view = dense.viewAs(shape, rowMajor(shape), 0);
    dense.dispose();
    return view;
  },
  backward(ctx, grad) {
    return [grad && reshapeOperator(grad, ctx.state)];
  },
}) as (x: Tensor, shape: Shape) => Tensor;

/**
 * The same elements in another shape; copies only when the strides of `x` leave no choice.
 *
 * @param shape one length may be -1 and is inferred
 * @example
 * reshape(arange(6), [2, -1]).shape; // [2, 3]
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  asTensor('reshape', 'x', x);
  checkLengths('reshape', 'shape', shape);
  const hole = shape.indexOf(-1);
  const known = shape.reduce((n, d, i) => (i === hole ? n : n * d), 1);
  const inferred = hole < 0 ? shape : shape.map((d, i) => (i === hole ? x.size / known : d));
  if (
    inferred.some((d) => !Number.isSafeInteger(d) || d < 0) ||
    inferred.reduce((n, d) => n * d, 1) !== x.size
  ) {
    throw new ArgumentError(
      'ERR_SHAPE',
      'reshape',
      'shape',
      show(shape),
      `It must hold the ${x.size} elements of ${x.toString()}`,
    );
  }
  return reshapeOperator(x, inferred);
}

const permuteOperator = defineOperator({
  name: 'permute',
  composed: true,
  forward(ctx: Context<readonly number[]>, x: Tensor, order: readonly number[]): Tensor {
    ctx.state = order;
    return x.viewAs(
      order.map((axis) => x.shape[axis] as number),
      order.map((axis) => x.strides[axis] as number),
      x.offset,
    );
  },
  backward(ctx, grad) {
    const inverse = new Array<number>(ctx.state.length);
    ctx.state.forEach((axis, i) => {
      inverse[axis] = i;
    });
    return [grad && permuteOperator(grad, inverse)];
  },
}) as (x: Tensor, order: readonly number[]) => Tensor;

/**
 * Axes in another order: axis i of the result is axis `order[i]` of `x`. A view.
 *
 * @example
 * permute(zeros([2, 3, 4]), [2, 0, 1]).shape; // [4, 2, 3]
 */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  asTensor('permute', 'x', x);
  checkLengths('permute', 'order', order);
  const axes = order.map((axis) => axisOf('permute', 'order', axis, x.rank));
  if (axes.length !== x.rank || new Set(axes).size !== x.rank) {
    throw new ArgumentError(
      'ERR_VALUE',
      'permute',
      'order',
      show(order),
      `Name each of the ${x.rank} axes once`,
    );
  }
  return permuteOperator(x, axes);
}

/**
 * Swaps two axes, by default the last two. A view.
 *
 * @example
 * transpose(zeros([2, 3, 4])).shape; // [2, 4, 3]
 */
export function transpose(x: Tensor, a = -2, b = -1): Tensor {
  const order = asTensor('transpose', 'x', x).shape.map((_, i) => i);
  const [p, q] = [axisOf('transpose', 'a', a, x.rank), axisOf('transpose', 'b', b, x.rank)];
  order[p] = q;
  order[q] = p;
  return permuteOperator(x, order);
}

interface SliceState {
  shape: Shape;
  axis: number;
  start: number;
}
const sliceOperator = defineOperator({
  name: 'slice',
  composed: true,
  forward(ctx: Context<SliceState>, x: Tensor, axis: number, start: number, end: number): Tensor {
    ctx.state = { shape: x.shape, axis, start };
    const shape = x.shape.map((d, i) => (i === axis ? end - start : d));
    return x.viewAs(shape, x.strides, x.offset + start * (x.strides[axis] as number));
  },
  backward(ctx, grad) {
    const { shape, axis, start } = ctx.state;
    return [grad && padOperator(grad, axis, start, shape[axis] as number)];
  },
}) as (x: Tensor, axis: number, start: number, end: number) => Tensor;

/** Zeros with `x` written at `start` of `axis`: the adjoint of slice. */
const padOperator = defineOperator({
  name: 'pad',
  composed: true,
  forward(
    ctx: Context<[number, number, number]>,
    x: Tensor,
    axis: number,
    start: number,
    length: number,
  ): Tensor {
    ctx.state = [axis, start, start + (x.shape[axis] as number)];
    const shape = x.shape.map((d, i) => (i === axis ? length : d));
    const y = full(shape, 0, { dtype: x.dtype, device: x.device });
    const window = y.viewAs(x.shape, y.strides, start * (y.strides[axis] as number));
    assign(window, x);
    window.dispose();
    return y;
  },
  backward(ctx, grad) {
    return [grad && sliceOperator(grad, ...ctx.state)];
  },
}) as (x: Tensor, axis: number, start: number, length: number) => Tensor;

/** A position from the start of an axis; NaN for what is none. */
function placeOf(position: number, length: number): number {
  if (!Number.isInteger(position)) return Number.NaN;
  return position < 0 ? position + length : position;
}

/**
 * Elements `start` up to and without `end` along an axis, a view. Negative positions count from the end.
 *
 * @throws ArgumentError when 0 <= start <= end <= length does not hold
 * @example
 * slice(arange(6), 0, 1, -1).dataSync(); // 1, 2, 3, 4
 */
export function slice(x: Tensor, axis: number, start: number, end?: number): Tensor {
  const at = axisOf('slice', 'axis', axis, asTensor('slice', 'x', x).rank);
  const length = x.shape[at] as number;
  const from = placeOf(start, length);
  const to = end === undefined ? length : placeOf(end, length);
  if (!(from >= 0 && to <= length && from <= to)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'slice',
      from >= 0 && from <= length ? 'end' : 'start',
      `${show(start)}..${show(end)}`,
      `Stay within the ${length} elements of axis ${axis}`,
    );
  }
  return sliceOperator(x, at, from, to);
}

/**
 * Cuts an axis into views of the given lengths, or into `parts` of equal length.
 *
 * @example
 * const [q, k, v] = split(zeros([2, 24]), 3, -1); // each [2, 8]
 * const [head, tail] = split(arange(5), [2, 3]);
 */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const at = axisOf('split', 'axis', axis, asTensor('split', 'x', x).rank);
  const length = x.shape[at] as number;
  const sizes: readonly number[] =
    typeof parts === 'number'
      ? Number.isSafeInteger(length / parts) && parts > 0 && parts <= Math.max(length, 0xffff)
        ? new Array<number>(parts).fill(length / parts)
        : []
      : parts;
  if (
    !Array.isArray(sizes) ||
    sizes.reduce((n, d) => n + d, 0) !== length ||
    sizes.some((d) => d < 0 || !Number.isInteger(d))
  ) {
    throw new ArgumentError(
      'ERR_VALUE',
      'split',
      'parts',
      show(parts),
      `They must add up to the length ${length} of axis ${axis}`,
    );
  }
  let start = 0;
  return sizes.map((size) => {
    const part = sliceOperator(x, at, start, start + size);
    start += size;
    return part;
  });
}

/**
 * Inserts an axis of length 1 before `axis`. A view.
 *
 * @example
 * unsqueeze(zeros([2, 3]), 0).shape; // [1, 2, 3]
 */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const at = axisOf('unsqueeze', 'axis', axis, asTensor('unsqueeze', 'x', x).rank + 1);
  return reshapeOperator(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/**
 * Removes an axis of length 1. A view.
 *
 * @example
 * squeeze(zeros([2, 1, 3]), 1).shape; // [2, 3]
 */
export function squeeze(x: Tensor, axis: number): Tensor {
  const at = axisOf('squeeze', 'axis', axis, asTensor('squeeze', 'x', x).rank);
  if (x.shape[at] !== 1) {
    throw new ArgumentError(
      'ERR_SHAPE',
      'squeeze',
      'x',
      x.toString(),
      `Axis ${axis} must have length 1`,
    );
  }
  return reshapeOperator(
    x,
    x.shape.filter((_, i) => i !== at),
  );
}
