import { checkFunction, checkObject, checkText } from '../options.js';
import { Tensor } from '../tensor.js';
import {
  Context,
  type Differentiable,
  type Edge,
  type Gradient,
  GraphNode,
  isRecording,
  wantsGradient,
  withRecording,
} from './graph.js';

type Outputs = Tensor | readonly (Tensor | null)[];

/** How a differentiable operator is written. */
export interface OperatorDefinition<A extends readonly unknown[], R extends Outputs, S> {
  /** Name in errors. */
  readonly name: string;
  /**
   * Set when `backward` is itself made of recorded operators; then gradients of gradients work.
   * Otherwise asking for them throws.
   */
  readonly composed?: boolean;
  /** `'always'` records the call even when no argument needs gradients: parameters may hide inside. */
  readonly records?: 'always';
  /** Computes the outputs; nothing in it is recorded. `ctx.save` and `ctx.own` keep what backward needs. */
  forward(ctx: Context<S>, ...args: A): R;
  /**
   * Gradients with respect to the arguments, in their order: a tensor, a list for a list of tensors,
   * or null where there is none. `ctx.needs[i]` says whether argument i wants one. A gradient output
   * is null when nothing flowed back to it.
   */
  backward(
    ctx: Context<S>,
    ...gradOutputs: (Tensor | null)[]
  ): readonly (Gradient | readonly Gradient[])[];
}

/**
 * Makes a function of an operator with its own gradient, recorded on the tape when an argument needs
 * gradients. Tensors may be arguments, or stand in lists that are arguments; anything else passes through.
 *
 * @throws ArgumentError for a definition without a name, or without one of the functions
 * @example
 * const square = defineOperator({
 *   name: 'square',
 *   composed: true,
 *   forward(ctx: Context, x: Tensor) {
 *     ctx.save(x);
 *     return mul(x, x);
 *   },
 *   backward(ctx, gradY) {
 *     const [x] = ctx.saved() as [Tensor];
 *     return [gradY && mul(gradY, add(x, x))];
 *   },
 * });
 * square(tensor([1, 2, 3])).dataSync(); // 1, 4, 9
 */
export function defineOperator<A extends readonly unknown[], R extends Outputs, S = unknown>(
  definition: OperatorDefinition<A, R, S>,
): (...args: A) => R {
  checkObject('defineOperator', 'definition', definition, '{ name, forward, backward }');
  checkText('defineOperator', 'name', definition.name);
  checkFunction('defineOperator', definition.forward, 'forward');
  checkFunction('defineOperator', definition.backward, 'backward');
  return (...args) => {
    const ctx = new Context<S>(definition.name);
    const edges: Edge[] = [];
    let wanted = false;
    if (isRecording()) {
      wanted = definition.records === 'always';
      for (const argument of args) {
        const edge = edgeOf(argument);
        edges.push(edge);
        const wants = wantsGradient(edge);
        ctx.needs.push(wants);
        wanted ||= wants;
      }
    }
    const result = withRecording(false, () => definition.forward(ctx, ...args));
    const outputs = (
      result instanceof Tensor ? [result] : result.filter((t) => t !== null)
    ) as Tensor[];
    if (!wanted) {
      ctx.releaseOwned('dispose');
      return result;
    }
    const node = new GraphNode(definition as unknown as Differentiable, ctx, edges, outputs);
    outputs.forEach((t, index) => {
      if (t.dtype === 'i32' || t.dtype === 'u8') return;
      t.node = node;
      t.outputIndex = index;
    });
    return result;
  };
}

function edgeOf(argument: unknown): Edge {
  if (argument instanceof Tensor) return argument;
  if (Array.isArray(argument) && argument.some((item) => item instanceof Tensor)) {
    return argument.map((item) => (item instanceof Tensor ? item : null));
  }
  return null;
}
