/** The second half of a training step: gradient norm, clipping, loss scale, optimizer. */

import { noGrad } from '../core/autograd/index.js';
import { show } from '../core/declare.js';
import { ArgumentError, CheckpointError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import { assign, full } from '../core/primitives.js';
import type { Tensor } from '../core/tensor.js';
import { clipCoefficient, gradNorm } from '../dense/index.js';
import type { Module } from '../nn/index.js';
import type { Optimizer } from '../optim/index.js';
import { LossScale, type LossScaleOptions } from './loss-scale.js';

/** How gradients become steps. */
export interface UpdaterOptions {
  /**
   * Made over `model.namedParameters()`. Give it a rate or schedule; it keeps f32 copies of 16-bit
   * parameters.
   */
  optimizer: Optimizer;
  /** Largest norm of the gradient of all parameters together; no limit by default. */
  clip?: number;
  /**
   * Multiplies the loss before backward, and takes that out of the gradients again; an overflow
   * skips the step. By default on for models with f16 parameters, off for others.
   */
  lossScale?: LossScaleOptions | boolean;
}

const lossScalePrefix = 'loss_scale.';

/** @internal Applies gradients; everything it decides is decided on the device. */
export class Updater {
  readonly #parameters: readonly Tensor[];
  readonly #optimizer: Optimizer;
  readonly #clip: number;
  readonly #scale: LossScale | undefined;

  constructor(model: Module, { optimizer, clip, lossScale }: UpdaterOptions) {
    if (clip !== undefined && !(typeof clip === 'number' && clip > 0)) {
      throw new ArgumentError('ERR_OPTION', 'train', 'clip', show(clip), 'Give a number above 0');
    }
    this.#parameters = [...optimizer.parameters()];
    this.#optimizer = optimizer;
    this.#clip = clip ?? Number.MAX_VALUE;
    const narrow = model.parameters().some(({ dtype }) => dtype === 'f16');
    const wanted = lossScale ?? narrow;
    if (typeof wanted !== 'boolean') {
      checkOptions('train', wanted, ['initial', 'growthInterval']);
    }
    if (wanted) {
      const { device } = this.#parameters[0] as Tensor;
      this.#scale = new LossScale(device, wanted === true ? {} : wanted);
    }
  }

  /** Whether overflows are expected, and skipped. */
  get scaled(): boolean {
    return this.#scale !== undefined;
  }

  /** Learning rate of the last step. */
  get rate(): number {
    return this.#optimizer.learningRate();
  }

  /** Gradient that backward starts from, for a loss that is one of `count` to be averaged. */
  seed(loss: Tensor, count: number): Tensor {
    const { dtype, device, shape } = loss;
    if (this.#scale) return this.#scale.seed(loss, count);
    return noGrad(() => full(shape, 1 / count, { dtype, device }));
  }

  /**
   * One step with the gradients there are, which are forgotten afterwards.
   *
   * @param rate learning rate; the optimizer's own where it is undefined
   * @returns the norm of the gradient before clipping, [1]
   */
  apply(rate: number | undefined): Tensor {
    const gradients = this.#parameters.flatMap(({ grad }) => (grad ? [grad] : []));
    const scale = this.#scale?.inverse();
    const { norm, nonFinite } = gradNorm(gradients, scale ? { scale } : {});
    const gradScale = clipCoefficient(norm, this.#clip, scale);
    if (rate !== undefined) this.#optimizer.setLearningRate(rate);
    this.#optimizer.step(this.#scale ? { gradScale, skip: nonFinite } : { gradScale });
    this.#scale?.update(nonFinite);
    this.#optimizer.zeroGrad();
    return norm;
  }

  /** Everything it remembers, for a checkpoint; the live tensors. */
  tensors(): Record<string, Tensor> {
    const tensors = this.#optimizer.state();
    if (this.#scale) {
      tensors[`${lossScalePrefix}factor`] = this.#scale.factor;
      tensors[`${lossScalePrefix}steps`] = this.#scale.steps;
    }
    return tensors;
  }

  /** @throws CheckpointError when the tensors are not those of such an optimizer */
  restore(tensors: Readonly<Record<string, Tensor>>): void {
    const own: Record<string, Tensor> = {};
    const scale = new Map<string, Tensor>();
    for (const [name, t] of Object.entries(tensors)) {
      if (name.startsWith(lossScalePrefix)) scale.set(name.slice(lossScalePrefix.length), t);
      else own[name] = t;
    }
    if (this.scaled !== scale.size > 0) {
      throw new CheckpointError(
        `the checkpoint was trained ${scale.size > 0 ? 'with' : 'without'} a loss scale, this run ${this.scaled ? 'with' : 'without'} one`,
        {
          operator: 'train',
          argument: 'lossScale',
          remedy: 'Resume with the dtype and the loss scale of the run',
        },
      );
    }
    this.#optimizer.loadState(own);
    if (this.#scale) {
      assign(this.#scale.factor, scale.get('factor') as Tensor);
      assign(this.#scale.steps, scale.get('steps') as Tensor);
    }
    for (const t of Object.values(tensors)) t.dispose();
  }
}
