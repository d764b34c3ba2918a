/** Tensor methods that need operators, kept apart so that the class itself needs none. */

import { defineOperator } from './autograd/define.js';
import type { Context } from './autograd/graph.js';
import { type BackwardOptions, backward } from './autograd/index.js';
import { asTensor, show } from './declare.js';
import { type Device, device as deviceOf } from './device.js';
import { type DType, dtypes, isFloating, type TensorData } from './dtype.js';
import { ArgumentError } from './errors.js';
import { checkDtype, copy } from './primitives.js';
import { type Shape, Tensor } from './tensor.js';
import { transfer } from './transfer.js';
import { permute, reshape, slice, transpose } from './views.js';

const castOperator = defineOperator({
  name: 'cast',
  composed: true,
  forward(ctx: Context<DType>, x: Tensor, dtype: DType): Tensor {
    ctx.state = x.dtype;
    return copy(x, dtype);
  },
  backward(ctx, grad) {
    return [grad && castOperator(grad, ctx.state)];
  },
}) as (x: Tensor, dtype: DType) => Tensor;

/**
 * A contiguous copy with elements of another dtype. Rounds to nearest even; values beyond the range
 * become infinite. Floats are truncated to i32: beyond its range the nearest end, and what NaN becomes
 * depends on the device; u8 are the low bits of that. Differentiable between floating dtypes.
 *
 * @example
 * const half = cast(tensor([0.1, 0.2]), 'bf16');
 * console.log(half.toString()); // bf16[2]
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  asTensor('cast', 'x', x);
  checkDtype('cast', dtype);
  if (isFloating(x.dtype) && !isFloating(dtype)) return copy(x, dtype);
  return castOperator(x, dtype);
}

declare module './tensor.js' {
  interface Tensor {
    /** The elements in row-major order, once they are computed. 16-bit floats: see `TensorData`. */
    data(): Promise<TensorData>;
    /** As `data()`, but blocks this thread, and with it the event loop, until they are computed. */
    dataSync(): TensorData;
    /** The single element as a number, once it is computed. */
    item(): Promise<number>;
    /** As `item()`, blocking the thread. */
    itemSync(): number;
    /** The tensor in another dtype or on another device; itself when nothing changes. */
    to(target: DType | Device | string): Tensor;
    /** Itself when its elements lie in row-major order, else a copy that does. */
    contiguous(): Tensor;
    /** A contiguous copy with memory of its own. Differentiable. */
    clone(): Tensor;
    reshape(...shape: number[]): Tensor;
    permute(...order: number[]): Tensor;
    transpose(a?: number, b?: number): Tensor;
    slice(axis: number, start: number, end?: number): Tensor;
    /** {@link backward} of this tensor. */
    backward(options?: BackwardOptions & { gradient?: Tensor }): void;
  }
}

async function read(t: Tensor): Promise<TensorData> {
  if (t.isContiguous) return t.readContiguous();
  const dense = copy(t);
  try {
    return await dense.readContiguous();
  } finally {
    dense.dispose();
  }
}

function readSync(t: Tensor): TensorData {
  if (t.isContiguous) return t.readContiguousSync();
  const dense = copy(t);
  try {
    return dense.readContiguousSync();
  } finally {
    dense.dispose();
  }
}

/** Reads one element through f32 or f64, so that 16-bit floats come out as numbers. */
function single(t: Tensor): Tensor {
  if (t.size !== 1) {
    throw new ArgumentError(
      'ERR_SHAPE',
      'item',
      'this',
      t.toString(),
      'It must have exactly one element; data() reads many',
    );
  }
  return t.dtype === 'f16' || t.dtype === 'bf16' ? copy(t, 'f32') : t;
}

const dtypeNames: readonly string[] = dtypes;

Object.assign(Tensor.prototype, {
  data(this: Tensor) {
    return read(this);
  },
  dataSync(this: Tensor) {
    return readSync(this);
  },
  async item(this: Tensor) {
    const one = single(this);
    const value = (await read(one))[0] as number;
    if (one !== this) one.dispose();
    return value;
  },
  itemSync(this: Tensor) {
    const one = single(this);
    const value = readSync(one)[0] as number;
    if (one !== this) one.dispose();
    return value;
  },
  to(this: Tensor, target: DType | Device | string) {
    if (typeof target === 'string' && dtypeNames.includes(target)) {
      return target === this.dtype ? this : cast(this, target as DType);
    }
    if (typeof target === 'string' && !/^(auto$|cpu|cuda)/.test(target)) {
      const remedy = `Use a dtype (${dtypeNames.join(', ')}) or a device (cpu, cuda, cuda:N, auto)`;
      throw new ArgumentError('ERR_OPTION', 'to', 'target', show(target), remedy);
    }
    const device = deviceOf(target);
    if (device === this.device) return this;
    return transfer(this, device);
  },
  contiguous(this: Tensor) {
    return this.isContiguous ? this : castOperator(this, this.dtype);
  },
  clone(this: Tensor) {
    return castOperator(this, this.dtype);
  },
  reshape(this: Tensor, ...shape: number[]) {
    return reshape(this, shape as Shape);
  },
  permute(this: Tensor, ...order: number[]) {
    return permute(this, order);
  },
  transpose(this: Tensor, a?: number, b?: number) {
    return transpose(this, a, b);
  },
  slice(this: Tensor, axis: number, start: number, end?: number) {
    return slice(this, axis, start, end);
  },
  backward(this: Tensor, options?: BackwardOptions & { gradient?: Tensor }) {
    backward(this, options);
  },
});
