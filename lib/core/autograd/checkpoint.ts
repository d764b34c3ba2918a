import { GraphError } from '../errors.js';
import { checkFunction, checkTensors } from '../options.js';
import { tidy } from '../scope.js';
import { Tensor } from '../tensor.js';
import { propagateNested } from './backward.js';
import { defineOperator } from './define.js';
import { type Context, withRecording } from './graph.js';
import { Replay } from './replay.js';

type Region = (...inputs: Tensor[]) => Tensor | readonly Tensor[];

const checkpointOperator = defineOperator({
  name: 'checkpoint',
  records: 'always',
  forward(
    ctx: Context<{ fn: Region; replay: Replay }>,
    fn: Region,
    inputs: readonly Tensor[],
  ): readonly Tensor[] {
    const replay = new Replay();
    ctx.state = { fn, replay };
    ctx.save(...inputs);
    const result = replay.record(() => tidy(() => fn(...inputs)));
    ctx.own(...replay.tensors());
    const outputs = result instanceof Tensor ? [result] : result;
    checkTensors('checkpoint', 'result', outputs);
    // An input handed through would end up in two places of the graph.
    return outputs.map((t) => (inputs.includes(t) ? t.detach() : t));
  },
  backward(ctx, ...gradOutputs) {
    const { fn, replay } = ctx.state;
    const count = ctx.saved().length - replay.tensors().length;
    const leaves = ctx
      .saved()
      .slice(0, count)
      .map((t) => t.detach().requireGrad(t.dtype !== 'i32' && t.dtype !== 'u8'));
    const result = replay.repeat(() => withRecording(true, () => fn(...leaves)));
    const outputs = result instanceof Tensor ? [result] : result;
    const pairs = outputs
      .map((t, i) => [t, gradOutputs[i]] as const)
      .filter(([t, g]) => g && t.requiresGrad);
    const gradients = propagateNested(
      pairs.map(([t]) => t),
      pairs.map(([, g]) => g as Tensor),
      leaves,
    );
    for (const t of outputs) t.release('backward');
    for (const t of leaves) t.release('backward');
    return [null, gradients];
  },
});

/**
 * Runs `fn` without keeping its intermediate results and computes them again during backward: memory
 * of one region at a time for about a third more arithmetic (Chen et al. 2016). Random operators
 * inside draw the same numbers again. Parameters that `fn` uses receive their gradients as usual;
 * tensors computed outside must be passed as inputs.
 *
 * @param fn a synchronous function of its inputs and of parameters
 * @example
 * const layer = new Linear(8, 8);
 * const x = ones([2, 8]).requireGrad();
 * const y = checkpoint((h) => gelu(layer.forward(h)), [x]);
 * backward(y, { gradient: ones([2, 8]) }); // computes the layer once more
 */
export function checkpoint<R extends Tensor | readonly Tensor[]>(
  fn: (...inputs: Tensor[]) => R,
  inputs: readonly Tensor[],
): R {
  checkFunction('checkpoint', fn);
  checkTensors('checkpoint', 'inputs', inputs);
  let single = false;
  const outputs = checkpointOperator((...given: Tensor[]) => {
    const result = fn(...given);
    if (typeof (result as { then?: unknown } | undefined)?.then === 'function') {
      throw new GraphError('checkpoint: the function is async, and backward could not repeat it', {
        operator: 'checkpoint',
        remedy: 'Pass a synchronous function',
      });
    }
    single = result instanceof Tensor;
    return result;
  }, inputs);
  return (single ? outputs[0] : outputs) as R;
}
