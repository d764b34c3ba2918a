import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const settings = {
  smoothing: field.number,
  zLoss: field.number,
  ignoreIndex: field.integer,
  over: field.choice('all', 'others'),
  reduction: field.choice('mean', 'sum', 'none'),
} as const;

const forwardCall = nativeOperator('crossEntropy', {
  logits: field.input,
  targets: field.input,
  ...settings,
  loss: field.output,
  lse: field.output,
  count: field.output,
});

const backwardCall = nativeOperator('crossEntropyBackward', {
  gradLoss: field.input,
  logits: field.input,
  targets: field.input,
  lse: field.input,
  count: field.input,
  ...settings,
  gradLogits: field.output,
});

interface Settings {
  smoothing: number;
  zLoss: number;
  ignoreIndex: number;
  over: 'all' | 'others';
  reduction: 'mean' | 'sum' | 'none';
}

const crossEntropyOperator = defineOperator({
  name: 'crossEntropy',
  forward(ctx: Context<Settings>, logits: Tensor, targets: Tensor, state: Settings): Tensor {
    ctx.state = state;
    const { loss, lse, count } = forwardCall({ logits, targets, ...state });
    ctx.save(logits, targets);
    ctx.own(lse, count);
    return loss;
  },
  backward(ctx, gradLoss) {
    if (!gradLoss) return [null, null, null];
    const [logits, targets, lse, count] = ctx.saved() as [Tensor, Tensor, Tensor, Tensor];
    const { gradLogits } = backwardCall({ gradLoss, logits, targets, lse, count, ...ctx.state });
    return [gradLogits, null, null];
  },
}) as (logits: Tensor, targets: Tensor, state: Settings) => Tensor;

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions {
  /** Share of the probability taken from the target, 0 to 1. Default 0. */
  labelSmoothing?: number;
  /**
   * Where that share goes: to `all` classes evenly, the target included (PyTorch), or to the
   * `others`, which leaves out the target and, when it is a class, `ignoreIndex`. Then the entropy of
   * the wanted distribution is subtracted, so that the loss is its Kullback-Leibler divergence, as in
   * "The Annotated Transformer". Default `all`.
   */
  smoothingOver?: 'all' | 'others';
  /** Targets of this value count nothing: no loss, no gradient, not in the mean. Default -100. */
  ignoreIndex?: number;
  /** Weight of (log sum exp)^2, which keeps logits near 0 (Chowdhery et al. 2022). Default 0. */
  zLoss?: number;
  /** `mean` over the targets that count (0 when none does), `sum`, or `none`: a loss each. Default `mean`. */
  reduction?: 'mean' | 'sum' | 'none';
}

/**
 * Cross entropy of class targets in nats, from logits in one pass; probabilities are never stored.
 *
 * @param logits floating, [..., V]
 * @param targets i32, [...]: classes from 0 to V - 1, or `ignoreIndex`. Any other value makes the
 *   operator fail when it runs: reading the loss then throws an OperatorError that names position and value.
 * @returns f32 (f64 for f64 logits), a scalar, or [...] without reduction
 * @throws ArgumentError for shapes, dtypes or options that do not fit
 * @example
 * const loss = crossEntropy(tensor([[2, 0, 0]]), tensor([0], { dtype: 'i32' }));
 * loss.itemSync(); // 0.2395
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  checkOptions('crossEntropy', options, [
    'labelSmoothing',
    'smoothingOver',
    'ignoreIndex',
    'zLoss',
    'reduction',
  ]);
  const {
    labelSmoothing: smoothing = 0,
    smoothingOver: over = 'all',
    ignoreIndex = -100,
    zLoss = 0,
    reduction = 'mean',
  } = options;
  return crossEntropyOperator(logits, targets, { smoothing, over, ignoreIndex, zLoss, reduction });
}
