import { asTensor } from '../declare.js';
import { GraphError } from '../errors.js';
import { checkFlags, checkFunction, checkOptions, checkTensors } from '../options.js';
import { full } from '../primitives.js';
import { keep } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { type BackwardOptions, onGradient, propagate } from './backward.js';
import { noGrad, withRecording } from './graph.js';

export type { BackwardOptions } from './backward.js';
export { checkpoint } from './checkpoint.js';
export { defineOperator, type OperatorDefinition } from './define.js';
export { Context, type Gradient, isRecording, noGrad } from './graph.js';
export { decideOnce } from './replay.js';

onGradient(keep);

function rootGradients(
  operator: string,
  outputs: readonly Tensor[],
  given: readonly (Tensor | undefined)[] | undefined,
): { gradients: Tensor[]; made: Tensor[] } {
  given?.forEach((t) => {
    if (t !== undefined) asTensor(operator, 'gradient', t);
  });
  const made: Tensor[] = [];
  const gradients = outputs.map((output, i) => {
    if (!output.requiresGrad) {
      throw new GraphError(
        `${operator}: ${output.toString()} does not depend on anything that requires a gradient`,
        {
          operator,
          remedy:
            'Call requireGrad() on the tensors to differentiate by, and compute outside noGrad()',
        },
      );
    }
    const gradient = given?.[i];
    if (gradient) return gradient;
    if (output.size !== 1) {
      throw new GraphError(
        `${operator}: ${output.toString()} is not a scalar, so its gradient must be given`,
        {
          operator,
          remedy: 'Pass a gradient of the same shape, or reduce it to a scalar loss first',
        },
      );
    }
    const one = noGrad(() => full(output.shape, 1, { dtype: output.dtype, device: output.device }));
    made.push(one);
    return one;
  });
  return { gradients, made };
}

/**
 * Computes gradients of `loss` and adds them to `.grad` of every leaf that requires one. Consumes the
 * graph: recorded intermediate results are released unless `retain()`ed; leaves and the loss stay.
 *
 * @param loss a scalar, or any tensor together with `gradient`
 * @throws GraphError when nothing requires gradients, or an earlier backward consumed the graph
 * @example
 * const w = tensor([1, 2, 3]).requireGrad();
 * backward(sum(mul(w, w)));
 * console.log(w.grad?.dataSync()); // 2, 4, 6
 */
export function backward(
  loss: Tensor,
  options: BackwardOptions & { gradient?: Tensor } = {},
): void {
  asTensor('backward', 'loss', loss);
  checkOptions('backward', options, ['gradient', 'retainGraph', 'createGraph']);
  const { retainGraph, createGraph } = options;
  checkFlags('backward', { retainGraph, createGraph });
  const { gradients, made } = rootGradients('backward', [loss], [options.gradient]);
  propagate([loss], gradients, null, options);
  for (const t of made) t.dispose();
}

/**
 * Gradients of `outputs` with respect to `inputs`, returned instead of accumulated.
 *
 * @param options.gradients one per output; may be left out for scalars
 * @returns one per input, null where no path leads from it to the outputs
 * @example
 * const x = tensor([1, 2, 3]).requireGrad();
 * const [dx] = gradients([sum(mul(x, x))], [x]);
 * console.log(dx?.dataSync()); // 2, 4, 6; x.grad stays null
 */
export function gradients(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  options: BackwardOptions & { gradients?: readonly Tensor[] } = {},
): (Tensor | null)[] {
  checkTensors('gradients', 'outputs', outputs);
  checkTensors('gradients', 'inputs', inputs);
  checkOptions('gradients', options, ['gradients', 'retainGraph', 'createGraph']);
  const { retainGraph, createGraph } = options;
  checkFlags('gradients', { retainGraph, createGraph });
  if (options.gradients) checkTensors('gradients', 'gradients', options.gradients);
  const roots = rootGradients('gradients', outputs, options.gradients);
  const result = propagate(outputs, roots.gradients, inputs, options);
  if (!options.createGraph) for (const t of roots.made) t.dispose();
  return result;
}

/** What {@link vjp} returns. */
export interface Vjp<R> {
  /** What the function returned. */
  value: R;
  /**
   * Vector-Jacobian product: gradients of the inputs for the given gradients of the outputs. May be
   * called again and again, also inside another backward.
   */
  pullback(...gradients: Tensor[]): (Tensor | null)[];
  /** Releases the retained graph. */
  dispose(): void;
}

/**
 * Evaluates `fn` and keeps its graph, so that products with its transposed Jacobian can be taken any
 * number of times (implicit differentiation needs that).
 *
 * @example
 * const f = vjp((x) => mul(x, x), [tensor([1, 2, 3])]);
 * const [g] = f.pullback(tensor([1, 1, 1])); // 2, 4, 6
 * f.dispose();
 */
export function vjp<R extends Tensor | readonly Tensor[]>(
  fn: (...inputs: Tensor[]) => R,
  inputs: readonly Tensor[],
): Vjp<R> {
  checkFunction('vjp', fn);
  checkTensors('vjp', 'inputs', inputs);
  const leaves = inputs.map((t) => t.detach().requireGrad());
  const value = withRecording(true, () => fn(...leaves));
  const outputs = (Array.isArray(value) ? value : [value]) as Tensor[];
  return {
    value,
    pullback: (...given) => gradients(outputs, leaves, { gradients: given, retainGraph: true }),
    dispose() {
      const live = outputs.filter((t) => t.node && !t.node.consumed);
      propagateNothing(live);
      for (const leaf of leaves) leaf.dispose();
    },
  };
}

/** Consumes a graph without computing gradients. */
function propagateNothing(outputs: readonly Tensor[]): void {
  if (outputs.length > 0) releaseGraph(outputs);
}

/**
 * Releases the recorded graph behind `outputs` and its intermediate results without a backward pass,
 * for results that turn out not to be needed.
 *
 * @example
 * const x = tensor([1, 2, 3]).requireGrad();
 * const loss = sum(mul(x, x));
 * releaseGraph([loss]); // frees x * x; a backward(loss) would now throw
 */
export function releaseGraph(outputs: readonly Tensor[]): void {
  // Results that were disposed meanwhile have a graph all the same.
  checkTensors(
    'releaseGraph',
    'outputs',
    Array.isArray(outputs) ? outputs.filter((t) => !t?.isDisposed) : outputs,
  );
  propagate(outputs, [], [], {});
}
