import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkFlags, checkNumbers } from '../core/options.js';
import { adamStep } from '../dense/optimizer.js';
import {
  type CommonOptions,
  type Group,
  gradsOf,
  Optimizer,
  type ParameterGroup,
  type Slot,
  type StepOptions,
  type TrainedParameters,
} from './optimizer.js';

/** Options of {@link Adam} and {@link AdamW}. */
export interface AdamOptions extends CommonOptions {
  /** Decay of the running mean and of the running square. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root of the running square. Default 1e-8. */
  eps?: number;
  /** Adam: times the parameter, added to the gradient, default 0. AdamW: decoupled, default 0.01. */
  weightDecay?: number;
  /** Divide by the largest running square so far (Reddi et al. 2018). Default false. */
  amsgrad?: boolean;
}

const defaults: Required<AdamOptions> = {
  lr: 1e-3,
  masterWeights: true,
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0,
  amsgrad: false,
};

abstract class AdamBase extends Optimizer<AdamOptions> {
  /** Whether weight decay acts on the parameter itself. */
  protected abstract readonly decoupled: boolean;

  protected override checkGroup(operator: string, options: Required<AdamOptions>): void {
    const { betas, eps, weightDecay, amsgrad } = options;
    if (!Array.isArray(betas) || betas.length !== 2 || !betas.every((b) => b >= 0 && b < 1)) {
      const remedy = 'Give two numbers in [0, 1)';
      throw new ArgumentError('ERR_OPTION', operator, 'betas', show(betas), remedy);
    }
    checkNumbers(operator, { 'betas[0]': betas[0], 'betas[1]': betas[1], eps, weightDecay }, 0);
    checkFlags(operator, { amsgrad });
  }

  protected override stateNames(group: Group<AdamOptions>): readonly string[] {
    return ['exp_avg', 'exp_avg_sq', ...(group.options.amsgrad ? ['max_exp_avg_sq'] : [])];
  }

  protected override update(
    group: Group<AdamOptions>,
    slots: readonly Slot[],
    { gradScale, skip }: StepOptions,
  ): void {
    const { betas, eps, weightDecay, amsgrad } = group.options;
    adamStep({
      params: slots.map(({ param }) => param),
      grads: gradsOf(slots),
      means: this.stateOf(slots, 'exp_avg'),
      squares: this.stateOf(slots, 'exp_avg_sq'),
      maxSquares: amsgrad ? this.stateOf(slots, 'max_exp_avg_sq') : [],
      masters: this.mastersOf(group, slots),
      lr: group.lr,
      step: group.step,
      gradScale,
      skip,
      beta1: betas[0],
      beta2: betas[1],
      eps,
      weightDecay,
      decoupled: this.decoupled,
    });
  }
}

/**
 * Adam (Kingma and Ba 2015): p -= lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps). Weight decay is
 * added to the gradient. All parameters of a group are updated by one native call.
 *
 * @param params tensors, [name, tensor] pairs, or groups `{ params, ...options }`
 * @throws ArgumentError for options or parameters that do not fit
 * @example
 * const w = ones([2]).requireGrad();
 * const optimizer = new Adam([w], { lr: 0.1, betas: [0.9, 0.98], eps: 1e-9 });
 * backward(crossEntropy(w, tensor(0, { dtype: 'i32' })));
 * optimizer.step();
 * optimizer.zeroGrad();
 */
export class Adam extends AdamBase {
  protected override readonly decoupled = false;
  constructor(
    params: TrainedParameters | Iterable<ParameterGroup<AdamOptions>>,
    options: AdamOptions = {},
  ) {
    super(params, options, defaults);
  }
}

/**
 * Adam with decoupled weight decay (Loshchilov and Hutter 2019): p *= 1 - lr * weightDecay before the
 * step of {@link Adam}.
 *
 * @example
 * const [w, b] = [ones([2, 2]).requireGrad(), zeros([2]).requireGrad()];
 * const optimizer = new AdamW(
 *   [{ params: [w] }, { params: [b], weightDecay: 0 }],
 *   { lr: cosineSchedule({ rate: 1e-3, steps: 1000, warmup: 50 }), weightDecay: 0.1 },
 * );
 */
export class AdamW extends AdamBase {
  protected override readonly decoupled = true;
  constructor(
    params: TrainedParameters | Iterable<ParameterGroup<AdamOptions>>,
    options: AdamOptions = {},
  ) {
    super(params, options, { ...defaults, weightDecay: 0.01 });
  }
}
