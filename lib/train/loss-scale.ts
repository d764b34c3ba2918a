/** A factor on the loss that keeps f16 gradients away from zero. */

import { noGrad } from '../core/autograd/index.js';
import { show } from '../core/declare.js';
import type { Device } from '../core/device.js';
import { ArgumentError } from '../core/errors.js';
import { assign, full } from '../core/primitives.js';
import { keep, tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { add, greaterEqual, minimum, mul, reciprocal, where } from '../dense/index.js';

/** How the factor moves. */
export interface LossScaleOptions {
  /** First factor; 2^16 by default. */
  initial?: number;
  /** Steps without overflow before it doubles; 1000 by default. */
  growthInterval?: number;
}

const largest = 2 ** 24;

/**
 * Dynamic loss scaling (Micikevicius et al. 2018): the factor doubles after a number of steps without
 * overflow and halves at an overflow, whose step is skipped. It lives on the device, and so does the
 * decision: no step waits for the host.
 */
export class LossScale {
  /** f32 [1], both: the factor, and steps since it last changed. */
  readonly factor: Tensor;
  readonly steps: Tensor;
  readonly #growthInterval: number;

  constructor(device: Device, { initial = 2 ** 16, growthInterval = 1000 }: LossScaleOptions = {}) {
    if (typeof initial !== 'number' || !(initial > 0 && initial <= largest)) {
      throw new ArgumentError(
        'ERR_OPTION',
        'train',
        'lossScale.initial',
        show(initial),
        `Give a number above 0, up to ${largest}`,
      );
    }
    if (!Number.isSafeInteger(growthInterval) || growthInterval < 1) {
      throw new ArgumentError(
        'ERR_OPTION',
        'train',
        'lossScale.growthInterval',
        show(growthInterval),
        'Give an integer of at least 1',
      );
    }
    this.factor = keep(full([1], initial, { device }));
    this.steps = keep(full([1], 0, { device }));
    this.#growthInterval = growthInterval;
  }

  /** What backward starts from, in the loss's dtype and shape: the factor over `divisor`. */
  seed(loss: Tensor, divisor: number): Tensor {
    return noGrad(() =>
      mul(this.factor, 1 / divisor)
        .reshape(...loss.shape)
        .to(loss.dtype),
    );
  }

  /** What takes the factor out of gradients again: f32 [1]. */
  inverse(): Tensor {
    return noGrad(() => reciprocal(this.factor));
  }

  /** @param overflow f32 [1]: not 0 when a gradient was infinite or NaN */
  update(overflow: Tensor): void {
    tidy(() =>
      noGrad(() => {
        const zero = full([1], 0, { device: overflow.device });
        const steps = add(this.steps, 1);
        const grows = greaterEqual(steps, this.#growthInterval);
        const grown = where(grows, minimum(mul(this.factor, 2), largest), this.factor);
        const counted = where(grows, zero, steps);
        const failed = greaterEqual(overflow, 0.5);
        assign(this.factor, where(failed, mul(this.factor, 0.5), grown));
        assign(this.steps, where(failed, zero, counted));
      }),
    );
  }
}
