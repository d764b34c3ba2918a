import { checkFlags, checkNumbers } from '../core/options.js';
import { sgdStep } from '../dense/optimizer.js';
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

/** Options of {@link SGD}. */
export interface SgdOptions extends CommonOptions {
  /** Decay of the running sum of gradients; 0 keeps none. Default 0. */
  momentum?: number;
  /** Share of a new gradient that the running sum leaves out. Default 0. */
  dampening?: number;
  /** Times the parameter, added to the gradient. Default 0. */
  weightDecay?: number;
  /** Look ahead by one step of momentum (Sutskever et al. 2013). Default false. */
  nesterov?: boolean;
}

const defaults: Required<SgdOptions> = {
  lr: 1e-3,
  masterWeights: true,
  momentum: 0,
  dampening: 0,
  weightDecay: 0,
  nesterov: false,
};

/**
 * Stochastic gradient descent, with momentum where wanted: b = momentum * b + g, p -= lr * b.
 *
 * @param params tensors, [name, tensor] pairs, or groups `{ params, ...options }`
 * @throws ArgumentError for options or parameters that do not fit
 * @example
 * const w = ones([3]).requireGrad();
 * const optimizer = new SGD([w], { lr: 0.1, momentum: 0.9, nesterov: true });
 */
export class SGD extends Optimizer<SgdOptions> {
  constructor(
    params: TrainedParameters | Iterable<ParameterGroup<SgdOptions>>,
    options: SgdOptions = {},
  ) {
    super(params, options, defaults);
  }

  protected override checkGroup(operator: string, options: Required<SgdOptions>): void {
    const { momentum, dampening, weightDecay, nesterov } = options;
    checkNumbers(operator, { momentum, dampening, weightDecay });
    checkFlags(operator, { nesterov });
  }

  protected override stateNames(group: Group<SgdOptions>): readonly string[] {
    return group.options.momentum === 0 ? [] : ['momentum_buffer'];
  }

  protected override update(
    group: Group<SgdOptions>,
    slots: readonly Slot[],
    { gradScale, skip }: StepOptions,
  ): void {
    const { momentum, dampening, weightDecay, nesterov } = group.options;
    sgdStep({
      params: slots.map(({ param }) => param),
      grads: gradsOf(slots),
      buffers: momentum === 0 ? [] : this.stateOf(slots, 'momentum_buffer'),
      masters: this.mastersOf(group, slots),
      lr: group.lr,
      step: group.step,
      gradScale,
      skip,
      momentum,
      dampening,
      weightDecay,
      nesterov,
    });
  }
}
