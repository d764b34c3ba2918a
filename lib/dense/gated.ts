/**
 * Gated activations (Dauphin et al. 2017, Shazeer 2020): one half decides how much of the other passes.
 * Operands are two tensors of one shape, or one tensor [..., 2H] whose last axis holds both halves.
 */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import type { Tensor } from '../core/tensor.js';

const kind = field.choice('swiglu', 'geglu', 'gegluTanh', 'reglu', 'glu');

const gatedCall = nativeOperator('gated', {
  a: field.input,
  b: field.optional,
  kind,
  y: field.output,
});

const gatedBackwardCall = nativeOperator('gatedBackward', {
  gradY: field.input,
  a: field.input,
  b: field.optional,
  kind,
  gradA: field.output,
  gradB: field.output,
});

type GatedKind = Parameters<typeof gatedCall>[0]['kind'];

function gate(kind: GatedKind): (a: Tensor, b: Tensor | undefined) => Tensor {
  return defineOperator({
    name: kind,
    forward(ctx: Context, a: Tensor, b: Tensor | undefined): Tensor {
      const { y } = gatedCall({ a, b, kind }, undefined, kind);
      if (b) ctx.save(a, b);
      else ctx.save(a);
      return y;
    },
    backward(ctx, gradY) {
      if (!gradY) return [null, null];
      const [a, b] = ctx.saved() as [Tensor, Tensor | undefined];
      const { gradA, gradB } = gatedBackwardCall({ gradY, a, b, kind });
      return [gradA, b ? gradB : null];
    },
  });
}

const swigluOperator = gate('swiglu');
/**
 * silu(a) b.
 *
 * @param a [..., 2H] when `b` is absent: its first half is activated
 * @throws ArgumentError when shapes differ, or the last axis of a single operand is odd
 * @example
 * swiglu(tensor([[1, 2, 3, 4]])).shape; // [1, 2]
 */
export function swiglu(a: Tensor, b?: Tensor): Tensor {
  return swigluOperator(a, b);
}

const gegluOperator = gate('geglu');
const gegluTanhOperator = gate('gegluTanh');
/**
 * gelu(a) b; see {@link swiglu}.
 * @example
 * geglu(tensor([1, 2]), tensor([10, 10])); // 8.413, 19.545
 */
export function geglu(a: Tensor, b?: Tensor): Tensor {
  return gegluOperator(a, b);
}
/**
 * gelu(a) b with the tanh approximation; see {@link swiglu}.
 * @example
 * gegluTanh(tensor([[1, 2, 3, 4]])).shape; // [1, 2]
 */
export function gegluTanh(a: Tensor, b?: Tensor): Tensor {
  return gegluTanhOperator(a, b);
}

const regluOperator = gate('reglu');
/**
 * relu(a) b; see {@link swiglu}.
 * @example
 * reglu(tensor([-1, 2]), tensor([10, 10])); // 0, 20
 */
export function reglu(a: Tensor, b?: Tensor): Tensor {
  return regluOperator(a, b);
}

const gluOperator = gate('glu');
/**
 * a sigmoid(b): here the second half is the gate; see {@link swiglu}.
 * @example
 * glu(tensor([2, 4]), tensor([0, 100])); // 1, 4
 */
export function glu(a: Tensor, b?: Tensor): Tensor {
  return gluOperator(a, b);
}
