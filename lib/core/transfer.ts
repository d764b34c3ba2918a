/** Tensors from one device to another. */
import { addon, packed, throwLast } from '../native.js';
import { defineOperator } from './autograd/define.js';
import type { Context } from './autograd/graph.js';
import type { Device } from './device.js';
import { isFloating } from './dtype.js';
import { copy } from './primitives.js';
import { Tensor } from './tensor.js';

/** The copy runs in a stream of the GPU: the target's, unless the target is the CPU. */
function move(x: Tensor, device: Device): Tensor {
  const dense = x.isContiguous ? x : copy(x);
  const stream = device.type === 'cuda' ? device.stream : x.device.stream;
  if (addon.transfer(dense.handle, stream.id, device.native) !== 0) throwLast('to');
  const moved = new Tensor(packed[0] as number, x.dtype, x.shape, device);
  if (dense !== x) dense.dispose();
  return moved;
}

const transferOperator = defineOperator({
  name: 'to',
  composed: true,
  forward(ctx: Context<Device>, x: Tensor, device: Device): Tensor {
    ctx.state = x.device;
    return move(x, device);
  },
  backward(ctx, grad) {
    return [grad && transferOperator(grad, ctx.state)];
  },
}) as (x: Tensor, device: Device) => Tensor;

/** @internal A contiguous copy on another device. Differentiable: the gradient comes back. */
export function transfer(x: Tensor, device: Device): Tensor {
  return isFloating(x.dtype) ? transferOperator(x, device) : move(x, device);
}
