import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { type Generator, generatorFor } from '../core/generator.js';
import { checkOptions } from '../core/options.js';
import { Tensor } from '../core/tensor.js';

const dropoutCall = nativeOperator('dropout', {
  x: field.input,
  state: field.input,
  p: field.number,
  y: field.output,
});

/** Linear in x, so it is its own gradient, of any order, with the same numbers. */
const dropoutOperator = defineOperator({
  name: 'dropout',
  composed: true,
  forward(ctx: Context<number>, x: Tensor, p: number, words: Tensor | Generator): Tensor {
    ctx.state = p;
    const state = words instanceof Tensor ? words.detach() : words.draw(x.size);
    ctx.own(state);
    return dropoutCall({ x, state, p }).y;
  },
  backward(ctx, grad) {
    const [state] = ctx.saved() as [Tensor];
    return [grad && dropoutOperator(grad, ctx.state, state), null, null];
  },
}) as (x: Tensor, p: number, words: Tensor | Generator) => Tensor;

/** Options of {@link dropout}. */
export interface DropoutOptions {
  /** Probability of a zero, 0 to 1, in steps of 2^-24. Default 0.5. */
  p?: number;
  /** Default: the default generator of the device. */
  generator?: Generator;
  /** `false` returns `x` unchanged. Default true. */
  training?: boolean;
}

/**
 * Zeros each element with probability `p` and scales the others by 1 / (1 - p) (Srivastava et al.
 * 2014). The mask is computed from the generator's state, again in backward, and never stored.
 *
 * @param x floating, any shape
 * @returns the shape and dtype of `x`; all zeros for p = 1
 * @throws ArgumentError when p lies outside [0, 1]
 * @example
 * const y = dropout(ones([2, 4]), { p: 0.1, generator: new Generator(3) });
 */
export function dropout(x: Tensor, options: DropoutOptions = {}): Tensor {
  checkOptions('dropout', options, ['p', 'generator', 'training']);
  const { p = 0.5, generator, training = true } = options;
  if (typeof p !== 'number' || !(p >= 0 && p <= 1)) {
    throw new ArgumentError('ERR_VALUE', 'dropout', 'p', show(p), 'Use a probability from 0 to 1');
  }
  if (!(x instanceof Tensor)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'dropout',
      'x',
      show(x),
      'Pass a Tensor; tensor(data) makes one',
    );
  }
  if (!training || p === 0) return x;
  return dropoutOperator(x, p, generatorFor('dropout', generator, x.device));
}
