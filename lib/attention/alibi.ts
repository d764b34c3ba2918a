/** Slopes of ALiBi. */
import { tensor } from '../core/create.js';
import { show } from '../core/declare.js';
import type { Device } from '../core/device.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

/**
 * The slopes of ALiBi (Press et al. 2022, section 3): for n heads, n a power of two, the geometric
 * sequence from 2^(-8/n) with that ratio; otherwise that of the next lower power, followed by every
 * second slope of the next higher one.
 *
 * @param heads query heads, from 1 on
 * @param options.dtype f32 (default), or f64 for attention in f64
 * @returns [heads]
 * @throws ArgumentError when `heads` is not a whole number from 1 to 65535
 * @example
 * const slopes = alibiSlopes(8); // 1/2, 1/4, ... 1/256
 * const x = normal([1, 8, 32, 16]);
 * const y = attention(x, x, x, { causal: true, alibiSlopes: slopes });
 */
export function alibiSlopes(
  heads: number,
  options: { dtype?: 'f32' | 'f64'; device?: Device | string } = {},
): Tensor {
  checkOptions('alibiSlopes', options, ['dtype', 'device']);
  if (!Number.isSafeInteger(heads) || heads < 1 || heads > 0xffff) {
    throw new ArgumentError(
      'ERR_VALUE',
      'alibiSlopes',
      'heads',
      show(heads),
      'Use a whole number from 1 to 65535',
    );
  }
  const geometric = (n: number) => Array.from({ length: n }, (_, i) => 2 ** ((-8 * (i + 1)) / n));
  const power = 2 ** Math.floor(Math.log2(heads));
  const between = geometric(2 * power).filter((_, i) => i % 2 === 0);
  const slopes = [...geometric(power), ...between].slice(0, heads);
  const { dtype = 'f32', device } = options;
  return tensor(Float64Array.from(slopes), { dtype, ...(device !== undefined && { device }) });
}
