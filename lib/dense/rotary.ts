import { type Context, defineOperator } from '../core/autograd/index.js';
import { asTensor, field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import { full } from '../core/primitives.js';
import type { Tensor } from '../core/tensor.js';

const rotaryCall = nativeOperator('rotary', {
  x: field.input,
  positions: field.optional,
  offset: field.optional,
  frequencies: field.optional,
  axis: field.integer,
  dim: field.integer,
  base: field.number,
  interleaved: field.flag,
  inverse: field.flag,
  y: field.output,
});

interface Settings {
  axis: number;
  dim: number;
  base: number;
  interleaved: boolean;
  inverse: boolean;
}
interface Placement {
  positions: Tensor | undefined;
  offset: Tensor | number | undefined;
  frequencies: Tensor | undefined;
}

/** Linear in x, and its own gradient with the angle reversed. */
const rotaryOperator = defineOperator({
  name: 'rotary',
  composed: true,
  forward(
    ctx: Context<{ settings: Settings; placement: Placement }>,
    x: Tensor,
    { positions, offset: shift, frequencies }: Placement,
    settings: Settings,
  ): Tensor {
    let offset: Tensor | undefined;
    if (typeof shift === 'number') {
      offset = full([1], shift, { dtype: 'i32', device: x.device });
      ctx.own(offset);
    } else if (shift) {
      offset = shift;
      ctx.save(offset);
    }
    if (positions) ctx.save(positions);
    if (frequencies) ctx.save(frequencies);
    const placement = { positions, offset, frequencies };
    ctx.state = { settings, placement };
    return rotaryCall({ x, ...placement, ...settings }).y;
  },
  backward(ctx, grad) {
    ctx.saved(); // throws when positions were written since
    const { settings, placement } = ctx.state;
    const back = { ...settings, inverse: !settings.inverse };
    return [grad && rotaryOperator(grad, placement, back), null, null];
  },
}) as (x: Tensor, placement: Placement, settings: Settings) => Tensor;

/** Options of {@link rotary}. */
export interface RotaryOptions {
  /** The sequence axis: -2 for [B, H, N, D] (default), 1 for [B, N, H, D]. */
  axis?: number;
  /** i32[N], or i32[B, N] with B on axis 0: position of each element. Default 0, 1, 2, ... */
  positions?: Tensor;
  /** Added to every position: one i32 element on the device (a decoding loop's), or a number. Default 0. */
  offset?: Tensor | number;
  /** Frequency of pair i is base^(-2 i / dim). Default 10000. */
  base?: number;
  /** Radians per position of each pair, f32[dim / 2] (on the CPU also f64), instead of `base` (scaled rotations). */
  frequencies?: Tensor;
  /** Channels that turn, an even number; the others pass. Default all. */
  dim?: number;
  /** Pairs are (2 i, 2 i + 1) instead of (i, i + dim / 2). Default false. */
  interleaved?: boolean;
}

/**
 * Rotary position embedding (Su et al. 2021): turns pairs of channels by position * frequency, so that
 * products of queries and keys depend on distances. Angles are reduced in f64: exact far beyond 10^6.
 *
 * @param x floating, [..., N, ..., D] with the channels last
 * @returns the shape and dtype of `x`
 * @throws ArgumentError for shapes, dtypes or options that do not fit
 * @example
 * const q = rotary(normal([2, 4, 16, 32])); // [B, H, N, D]
 * const k = rotary(normal([2, 16, 4, 32]), { axis: 1, offset: 100 }); // [B, N, H, D]
 */
export function rotary(x: Tensor, options: RotaryOptions = {}): Tensor {
  checkOptions('rotary', options, [
    'axis',
    'positions',
    'offset',
    'base',
    'frequencies',
    'dim',
    'interleaved',
  ]);
  const { axis = -2, positions, base = 10000, frequencies, interleaved = false } = options;
  const dim = options.dim ?? asTensor('rotary', 'x', x).shape.at(-1) ?? 0;
  const { offset } = options;
  if (typeof offset === 'number' && !Number.isInteger(offset)) {
    throw new ArgumentError('ERR_VALUE', 'rotary', 'offset', show(offset), 'Use an integer');
  }
  return rotaryOperator(
    x,
    { positions, offset, frequencies },
    { axis, dim, base, interleaved, inverse: false },
  );
}
