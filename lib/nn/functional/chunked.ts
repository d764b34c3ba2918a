import { checkpoint } from '../../core/autograd/index.js';
import type { Tensor } from '../../core/tensor.js';
import { slice } from '../../core/views.js';
import { checkSizes } from '../layers/options.js';
import { unpack } from './unpack.js';

/**
 * @internal Calls `fn` on `chunk` rows at a time, keeping of each call its result alone: what is inside is
 * computed again during backward. One chunk needs the memory that the whole would.
 *
 * @param x [rows, ...], the argument that may need gradients
 * @param others tensors without gradients, cut along with it
 */
export function chunked(
  operator: string,
  chunk: number,
  fn: (x: Tensor, ...others: Tensor[]) => Tensor,
  x: Tensor,
  others: readonly Tensor[] = [],
): Tensor[] {
  checkSizes(operator, { chunk });
  const rows = x.dim(0);
  const sizes = Array.from({ length: Math.ceil(rows / chunk) }, (_, i) =>
    Math.min(chunk, rows - i * chunk),
  );
  return unpack(x, 0, sizes).map((part, i) => {
    const [start, end] = [i * chunk, i * chunk + part.dim(0)];
    return checkpoint(fn, [part, ...others.map((t) => slice(t, 0, start, end))]);
  });
}
