import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import { checkOptions } from '../../core/options.js';
import { hostBuffer } from '../../core/tensor.js';

/** Options of `sinusoidalPositions`. */
export interface SinusoidalOptions {
  /**
   * `interleaved` (the paper, and the default): sine in even columns, cosine in odd ones.
   * `halves` (tensor2tensor): all sines, then all cosines.
   */
  layout?: 'interleaved' | 'halves';
  /** The longest wavelength is 2 pi times this; 10000 by default. */
  base?: number;
}

/**
 * Position table of Vaswani et al. 2017, section 3.5:
 * PE[p, 2i] = sin(p / base^(2i/d)), PE[p, 2i+1] = cos(p / base^(2i/d)), computed in float64.
 * For odd `d` the last frequency has a sine only.
 *
 * @param length positions, 0 to length - 1
 * @param d width of the model
 * @param out array of length * d elements to fill, `Float32Array` or `Float64Array`; a new
 * `Float32Array` by default
 * @returns [length, d], row after row
 * @throws {ArgumentError} when a size is no positive integer or `out` has another length.
 * @example
 * const table = sinusoidalPositions(1024, 512);
 */
export function sinusoidalPositions<T extends Float32Array | Float64Array = Float32Array>(
  length: number,
  d: number,
  options: SinusoidalOptions = {},
  out?: T,
): T {
  const operator = 'sinusoidalPositions';
  checkOptions(operator, options, ['layout', 'base']);
  const { layout = 'interleaved', base = 10000 } = options;
  for (const [argument, value] of Object.entries({ length, d })) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new ArgumentError('ERR_VALUE', operator, argument, show(value), 'Give an integer >= 1');
  }
  if (!Number.isFinite(base) || base <= 1) {
    throw new ArgumentError('ERR_OPTION', operator, 'base', show(base), 'Give a number above 1');
  }
  if (layout !== 'interleaved' && layout !== 'halves') {
    const remedy = "Give 'interleaved' or 'halves'";
    throw new ArgumentError('ERR_OPTION', operator, 'layout', show(layout), remedy);
  }
  const table =
    out === undefined ? (new Float32Array(hostBuffer(operator, 4 * length * d)) as T) : out;
  if (!ArrayBuffer.isView(table)) {
    const remedy = 'Give a Float32Array or Float64Array, or leave it out';
    throw new ArgumentError('ERR_VALUE', operator, 'out', show(table), remedy);
  }
  if (table.length !== length * d) {
    const remedy = `Give ${length * d} elements, or leave it out`;
    throw new ArgumentError('ERR_SHAPE', operator, 'out', `of ${table.length} elements`, remedy);
  }
  const sines = Math.ceil(d / 2);
  const step = layout === 'interleaved' ? 2 : 1;
  const offset = layout === 'interleaved' ? 1 : sines;
  for (let i = 0; i < sines; i++) {
    const frequency = base ** ((-2 * i) / d);
    for (let p = 0; p < length; p++) {
      const at = p * d + i * step;
      table[at] = Math.sin(p * frequency);
      if (2 * i + 1 < d) table[at + offset] = Math.cos(p * frequency);
    }
  }
  return table;
}
