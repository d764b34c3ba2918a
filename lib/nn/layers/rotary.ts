import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import { checkFlags, checkNumbers, checkOptions } from '../../core/options.js';
import type { Tensor } from '../../core/tensor.js';
import { rotary } from '../../dense/index.js';

/** Options of {@link RotaryPositions}. */
export interface RotaryPositionsOptions {
  /** Pair i turns by position * base^(-2 i / dim). Default 10000. */
  base?: number;
  /** Pairs are channels (2 i, 2 i + 1) instead of (i, i + dim / 2). Default false. */
  interleaved?: boolean;
}

/**
 * Positions as rotations of queries and keys (Su et al. 2021), so that scores depend on distances; see
 * `rotary`. It has no parameters.
 *
 * @example
 * const attention = new MultiHeadAttention({ dModel: 64, heads: 4, rotary: new RotaryPositions(16) });
 */
export class RotaryPositions {
  readonly base: number;
  readonly interleaved: boolean;

  /** @param dim channels of a head that turn, an even number up to its width */
  constructor(
    readonly dim: number,
    options: RotaryPositionsOptions = {},
  ) {
    checkOptions('RotaryPositions', options, ['base', 'interleaved']);
    if (!Number.isSafeInteger(dim) || dim < 2 || dim % 2 !== 0) {
      const remedy = 'Give an even number >= 2, at most the width of a head';
      throw new ArgumentError('ERR_OPTION', 'RotaryPositions', 'dim', show(dim), remedy);
    }
    const { base = 10000, interleaved = false } = options;
    checkNumbers('RotaryPositions', { base });
    checkFlags('RotaryPositions', { interleaved });
    this.base = base;
    this.interleaved = interleaved;
  }

  /**
   * @param x [B, N, H, D]
   * @param positions i32 [B, N]. Default 0 to N - 1 in every row.
   */
  forward(x: Tensor, positions?: Tensor): Tensor {
    const { dim, base, interleaved } = this;
    return rotary(x, { axis: 1, dim, base, interleaved, ...(positions && { positions }) });
  }
}
