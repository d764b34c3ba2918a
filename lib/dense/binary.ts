/** Arithmetic of two operands, with NumPy's broadcasting. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator } from '../core/declare.js';
import type { Shape, Tensor } from '../core/tensor.js';
import { sumTo } from './sum.js';
import { discard } from './temporary.js';

/** A tensor, or a number that takes the dtype of the tensor beside it. */
export type Operand = Tensor | number;

const binaryCall = nativeOperator('binary', {
  a: field.optional,
  b: field.optional,
  value: field.number,
  kind: field.choice('add', 'sub', 'mul', 'div', 'pow', 'maximum', 'minimum'),
  y: field.output,
});

type BinaryKind = 'add' | 'sub' | 'mul' | 'div' | 'pow' | 'maximum' | 'minimum';

/** @internal The operands as a call of `kind` takes them; at least one has to be a tensor. */
export function operandsOf<K extends string>(kind: K, a: Operand, b: Operand) {
  if (typeof b === 'number') return { a: asTensor(kind, 'a', a), value: b, kind };
  if (typeof a === 'number') return { b: asTensor(kind, 'b', b), value: a, kind };
  return { a: asTensor(kind, 'a', a), b: asTensor(kind, 'b', b), value: 0, kind };
}

/** @internal The native call. */
export function binary(kind: BinaryKind, a: Operand, b: Operand): Tensor {
  return binaryCall(operandsOf(kind, a, b), undefined, kind).y;
}

/** @internal The gradient `g` of an operand of `shape` that was broadcast; `g` itself is released when it is reduced. */
export function reduceTo(g: Tensor, shape: Shape): Tensor {
  const reduced = sumTo(g, shape);
  if (reduced !== g) discard(g);
  return reduced;
}

/** @internal Keeps the operands that are tensors. */
export function saveOperands(ctx: Context<OperandState>, a: Operand, b: Operand): void {
  ctx.state = { a: typeof a === 'number' ? a : null, b: typeof b === 'number' ? b : null };
  if (typeof a !== 'number') ctx.save(a);
  if (typeof b !== 'number') ctx.save(b);
}

/** @internal Operands that are numbers. */
export interface OperandState {
  a: number | null;
  b: number | null;
}

/** @internal The operands of `saveOperands`. */
export function savedOperands(ctx: Context<OperandState>): [Operand, Operand] {
  const saved = ctx.saved();
  const a = ctx.state.a ?? (saved[0] as Tensor);
  const b = ctx.state.b ?? (saved.at(-1) as Tensor);
  return [a, b];
}

/** @internal */
export function shapeOf(operand: Operand): Shape {
  return typeof operand === 'number' ? [] : operand.shape;
}

type BinaryOperator = (a: Operand, b: Operand) => Tensor;

/** Operand shapes are all that a linear operator needs. */
function saveShapes(ctx: Context<[Shape | null, Shape | null]>, a: Operand, b: Operand) {
  ctx.state = [typeof a === 'number' ? null : a.shape, typeof b === 'number' ? null : b.shape];
}

const addOperator = defineOperator({
  name: 'add',
  composed: true,
  forward(ctx: Context<[Shape | null, Shape | null]>, a: Operand, b: Operand): Tensor {
    const y = binary('add', a, b);
    saveShapes(ctx, a, b);
    return y;
  },
  backward(ctx, grad) {
    const [a, b] = ctx.state;
    return [
      grad && a && ctx.needs[0] ? sumTo(grad, a) : null,
      grad && b && ctx.needs[1] ? sumTo(grad, b) : null,
    ];
  },
}) as BinaryOperator;

/**
 * a + b, broadcasting. Floats or i32 of one dtype; one operand may be a number.
 *
 * @throws ArgumentError when dtypes differ or shapes do not broadcast
 * @example
 * add(tensor([[1, 2], [3, 4]]), tensor([10, 20])); // [[11, 22], [13, 24]]
 */
export function add(a: Operand, b: Operand): Tensor {
  return addOperator(a, b);
}

const subOperator = defineOperator({
  name: 'sub',
  composed: true,
  forward(ctx: Context<[Shape | null, Shape | null]>, a: Operand, b: Operand): Tensor {
    const y = binary('sub', a, b);
    saveShapes(ctx, a, b);
    return y;
  },
  backward(ctx, grad) {
    const [a, b] = ctx.state;
    let gradB: Tensor | null = null;
    if (grad && b && ctx.needs[1]) {
      const reduced = sumTo(grad, b);
      gradB = mulOperator(reduced, -1);
      if (reduced !== grad) discard(reduced);
    }
    return [grad && a && ctx.needs[0] ? sumTo(grad, a) : null, gradB];
  },
}) as BinaryOperator;

/**
 * a - b, broadcasting; see {@link add}.
 * @example
 * sub(tensor([3, 4]), 1); // 2, 3
 */
export function sub(a: Operand, b: Operand): Tensor {
  return subOperator(a, b);
}

const mulOperator: BinaryOperator = defineOperator({
  name: 'mul',
  composed: true,
  forward(ctx: Context<OperandState>, a: Operand, b: Operand): Tensor {
    const y = binary('mul', a, b);
    saveOperands(ctx, a, b);
    return y;
  },
  backward(ctx, grad) {
    const [a, b] = savedOperands(ctx);
    return [
      grad && ctx.needs[0] ? reduceTo(mulOperator(grad, b), shapeOf(a)) : null,
      grad && ctx.needs[1] ? reduceTo(mulOperator(grad, a), shapeOf(b)) : null,
    ];
  },
});

/**
 * a * b, broadcasting; see {@link add}.
 * @example
 * mul(tensor([[1], [2]]), tensor([3, 4])); // [[3, 4], [6, 8]]
 */
export function mul(a: Operand, b: Operand): Tensor {
  return mulOperator(a, b);
}

const divOperator: BinaryOperator = defineOperator({
  name: 'div',
  composed: true,
  forward(ctx: Context<OperandState>, a: Operand, b: Operand): Tensor {
    const y = binary('div', a, b);
    saveOperands(ctx, a, b);
    return y;
  },
  backward(ctx, grad) {
    if (!grad) return [null, null];
    const [a, b] = savedOperands(ctx);
    const perB = divOperator(grad, b);
    let gradB: Tensor | null = null;
    if (ctx.needs[1]) {
      const ratio = divOperator(a, b);
      const product = mulOperator(perB, ratio);
      gradB = reduceTo(mulOperator(product, -1), shapeOf(b));
      discard(ratio, product);
    }
    if (!ctx.needs[0]) discard(perB);
    return [ctx.needs[0] ? reduceTo(perB, shapeOf(a)) : null, gradB];
  },
});

/**
 * a / b of floats, broadcasting; see {@link add}.
 * @example
 * div(1, tensor([2, 4])); // 0.5, 0.25
 */
export function div(a: Operand, b: Operand): Tensor {
  return divOperator(a, b);
}
