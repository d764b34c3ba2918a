/** What matmul and linear share: the activations they apply, and the way back through them. */
import { field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import type { Tensor } from '../core/tensor.js';

/** Names of the functions that {@link matmul} and {@link linear} can apply to their result. */
export const activations = ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'reluSquared'] as const;

/**
 * A function applied to a product before it is stored: `gelu` is x Phi(x), `geluTanh` its tanh
 * approximation, `silu` x sigmoid(x), `reluSquared` max(x, 0)^2.
 */
export type Activation = (typeof activations)[number];

const activationBackwardCall = nativeOperator('activationBackward', {
  gradY: field.input,
  kept: field.optional,
  activation: field.choice(...activations),
  wantBias: field.flag,
  gradX: field.output,
  gradBias: field.output,
});

/** @internal Refuses a name that is no activation. */
export function checkActivation(operator: string, activation: Activation): void {
  if (activations.includes(activation)) return;
  throw new ArgumentError(
    'ERR_OPTION',
    operator,
    'activation',
    show(activation),
    `Use one of ${activations.map((name) => `'${name}'`).join(', ')}`,
  );
}

/** @internal What backward needs beside the operands: which of y and the pre-activation, or neither. */
export function keeps(activation: Activation): 'nothing' | 'output' | 'preactivation' {
  return activation === 'none' ? 'nothing' : activation === 'relu' ? 'output' : 'preactivation';
}

/** @internal The gradients of the product and of the bias. `product` is `gradY` itself without activation. */
export function throughActivation(
  gradY: Tensor,
  kept: Tensor | undefined,
  activation: Activation,
  wantBias: boolean,
): { product: Tensor; bias: Tensor | null } {
  if (activation === 'none' && !wantBias) return { product: gradY, bias: null };
  const { gradX, gradBias } = activationBackwardCall({ gradY, kept, activation, wantBias });
  return { product: activation === 'none' ? gradY : gradX, bias: wantBias ? gradBias : null };
}
