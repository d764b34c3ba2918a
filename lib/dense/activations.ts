/** Activation functions. */
import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { add, mul, sub } from './binary.js';
import { elementwise, erf, exp, sigmoid, sign } from './unary.js';

const reluOperator: (x: Tensor) => Tensor = elementwise('relu', (y) => sign(y));
/**
 * max(x, 0); gradient 0 at 0.
 * @example
 * relu(tensor([-1, 2])); // 0, 2
 */
export function relu(x: Tensor): Tensor {
  return reluOperator(x);
}

const reluSquaredOperator = elementwise('reluSquared', (x) => mul(relu(x), 2));
/**
 * max(x, 0)^2 (So et al. 2021, Primer).
 * @example
 * reluSquared(tensor([-1, 3])); // 0, 9
 */
export function reluSquared(x: Tensor): Tensor {
  return reluSquaredOperator(x);
}

const geluOperator = elementwise('gelu', (x) => {
  const distribution = mul(add(erf(mul(x, Math.SQRT1_2)), 1), 0.5);
  const density = mul(exp(mul(mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return add(distribution, mul(x, density));
});

const cubic = 0.044715;
const geluTanhOperator = elementwise('geluTanh', (x) => {
  const scale = 2 * Math.sqrt(2 / Math.PI);
  const square = mul(x, x);
  const s = sigmoid(mul(mul(x, add(mul(square, cubic), 1)), scale));
  const inner = mul(add(mul(square, 3 * cubic), 1), scale);
  return add(s, mul(mul(x, inner), mul(s, sub(1, s))));
});

/**
 * x Phi(x), Phi the distribution function of the standard normal (Hendrycks and Gimpel 2016).
 *
 * @param options.approximate `'none'`: Phi through the error function (default); `'tanh'`:
 *   (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as GPT-2 has it
 * @throws ArgumentError ERR_OPTION for another approximation
 * @example
 * gelu(tensor([-1, 1])); // -0.1587, 0.8413
 * gelu(tensor([1]), { approximate: 'tanh' }); // 0.8412
 */
export function gelu(x: Tensor, options: { approximate?: 'none' | 'tanh' } = {}): Tensor {
  checkOptions('gelu', options, ['approximate']);
  switch (options.approximate ?? 'none') {
    case 'none':
      return geluOperator(x);
    case 'tanh':
      return geluTanhOperator(x);
    default:
      throw new ArgumentError(
        'ERR_OPTION',
        'gelu',
        'approximate',
        show(options.approximate),
        "Use 'none' or 'tanh'",
      );
  }
}

const siluOperator = elementwise('silu', (x) => {
  const s = sigmoid(x);
  return add(s, mul(x, mul(s, sub(1, s))));
});
/**
 * x sigmoid(x), also called swish (Elfwing et al. 2017).
 * @example
 * silu(tensor([0, 1])); // 0, 0.7311
 */
export function silu(x: Tensor): Tensor {
  return siluOperator(x);
}
