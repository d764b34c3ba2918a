import { propagateNested } from '../../core/autograd/backward.js';
import { withRecording } from '../../core/autograd/graph.js';
import { type Context, defineOperator } from '../../core/autograd/index.js';
import { Replay } from '../../core/autograd/replay.js';
import { asTensor, show } from '../../core/declare.js';
import { ArgumentError, GraphError } from '../../core/errors.js';
import { checkFunction, checkList, checkObject } from '../../core/options.js';
import { accumulate } from '../../core/primitives.js';
import { tidy } from '../../core/scope.js';
import { Tensor } from '../../core/tensor.js';
import { add, sub } from '../../dense/index.js';

/** A branch of a reversible block: the summand, or beside it a scalar loss that the block adds. */
export type ReversibleBranch = (
  x: Tensor,
) => Tensor | readonly [summand: Tensor, loss: Tensor | null];

/** y1 = x1 + f(x2), y2 = x2 + g(y1). */
export interface ReversibleBlock {
  readonly f: ReversibleBranch;
  readonly g: ReversibleBranch;
}

/** What {@link reversible} returns. */
export interface ReversibleResult {
  readonly y1: Tensor;
  readonly y2: Tensor;
  /** The sum of the losses of all branches; null where there is none. */
  readonly loss: Tensor | null;
}

interface Step {
  readonly branch: ReversibleBranch;
  readonly replay: Replay;
}

interface State {
  /** f of the first block, g of the first block, f of the second, and so on. */
  readonly steps: readonly Step[];
}

/** Summand and loss of a branch. */
function parts(result: ReturnType<ReversibleBranch>): readonly [Tensor, Tensor | null] {
  if (result instanceof Tensor) return [result, null];
  if (!Array.isArray(result)) {
    const remedy = 'f and g return a tensor, or [summand, loss]';
    throw new ArgumentError('ERR_VALUE', 'reversible', 'f', `one giving ${show(result)}`, remedy);
  }
  const [summand, loss = null] = result as [Tensor, Tensor | null | undefined];
  return [asTensor('reversible', 'f', summand), loss && asTensor('reversible', 'f', loss)];
}

const reversibleOperator = defineOperator({
  name: 'reversible',
  records: 'always',
  forward(
    ctx: Context<State>,
    branches: readonly ReversibleBranch[],
    x1: Tensor,
    x2: Tensor,
  ): readonly (Tensor | null)[] {
    const steps = branches.map((branch) => ({ branch, replay: new Replay() }));
    // A step turns (a, b) into (b, a + branch(b)): after two of them the streams stand as before.
    let [a, b] = [x1.detach(), x2.detach()];
    let total: Tensor | null = null;
    for (const { branch, replay } of steps) {
      const [sum, loss] = tidy(() =>
        replay.record(() => {
          const [summand, extra] = parts(branch(b));
          return [checked(add(a, summand), a), extra] as const;
        }),
      );
      a.release('dispose');
      [a, b] = [b, sum];
      total = added(total, loss);
    }
    ctx.state = { steps };
    ctx.save(a, b);
    ctx.own(...steps.flatMap(({ replay }) => replay.tensors()));
    return [a, b, total];
  },
  backward(ctx, ...gradOutputs) {
    const [y1, y2] = ctx.saved() as [Tensor, Tensor];
    let [a, b] = [y1.detach(), y2.detach()];
    let [gradA, gradB] = [gradOutputs[0] ?? null, gradOutputs[1] ?? null];
    const gradLoss = gradOutputs[2] ?? null;
    const ours = new Set<Tensor>(); // gradients that nobody else holds
    for (const { branch, replay } of [...ctx.state.steps].reverse()) {
      // (a, b) came from (c, a) with b = c + branch(a).
      const wanted = gradB !== null || gradLoss !== null;
      const input = a.detach().requireGrad();
      const [summand, loss] = replay.repeat(() =>
        parts(withRecording(wanted, () => branch(input))),
      );
      const before = withRecording(false, () => sub(b, summand));
      let gradInput: Tensor | null = null;
      const roots: [Tensor, Tensor][] = [];
      if (gradB && summand.requiresGrad) roots.push([summand, gradB]);
      if (gradLoss && loss?.requiresGrad) roots.push([loss, gradLoss]);
      if (roots.length > 0)
        [gradInput = null] = propagateNested(
          roots.map(([root]) => root),
          roots.map(([, gradient]) => gradient),
          [input],
        );
      for (const t of [summand, loss, input, b]) t?.release('backward');
      if (gradInput) ours.add(gradInput);
      const grad: Tensor | null = summed(gradA, gradInput);
      if (grad && gradA && gradInput) {
        ours.add(grad);
        for (const t of [gradA, gradInput]) if (ours.delete(t)) t.release('backward');
      }
      [a, b] = [before, a];
      [gradA, gradB] = [gradB, grad];
    }
    a.release('backward');
    b.release('backward');
    return [null, gradA, gradB];
  },
});

function summed(a: Tensor | null, b: Tensor | null): Tensor | null {
  return a && b ? withRecording(false, () => accumulate(a, b)) : (a ?? b);
}

function added(total: Tensor | null, loss: Tensor | null): Tensor | null {
  if (!total || !loss) return total ?? loss;
  const sum = add(total, loss);
  total.release('dispose');
  loss.release('dispose');
  return sum;
}

/** A branch that changes the shape would be broadcast, and could not be undone. */
function checked(sum: Tensor, stream: Tensor): Tensor {
  const same = sum.rank === stream.rank && sum.shape.every((n, i) => n === stream.shape[i]);
  if (same) return sum;
  throw new GraphError(`reversible: a branch turned ${stream.toString()} into ${sum.toString()}`, {
    operator: 'reversible',
    remedy: 'f and g return what can be added to the streams: the shape of their input',
  });
}

/**
 * Reversible residual blocks (Gomez et al. 2017): y1 = x1 + f(x2), y2 = x2 + g(y1), one block after
 * the other. Backward computes each block's inputs from its outputs, so that memory does not grow with
 * their number, for a second evaluation of f and g. Random operators inside draw the same numbers again,
 * and what `decideOnce` guards is not computed twice. Parameters used inside receive their gradients as
 * usual; other tensors that need gradients must come through x1 and x2.
 *
 * Inputs are restored up to rounding, which grows slowly with depth in f32; 16-bit streams lose more.
 *
 * @param x1 a stream; `x2` another of its shape and dtype
 * @throws ArgumentError for what is no block or no stream, GraphError when f or g changes the shape
 * @example
 * const [f, g] = [new Linear(8, 8), new FeedForward(8, 32)];
 * const block = { f: (x: Tensor) => tanh(f.forward(x)), g: (x: Tensor) => g.forward(x) };
 * const x = normal([2, 8]).requireGrad();
 * const { y1, y2 } = reversible([block, block], x, x);
 * backward(sum(add(y1, y2)));
 */
export function reversible(
  blocks: readonly ReversibleBlock[],
  x1: Tensor,
  x2: Tensor,
): ReversibleResult {
  checkList('reversible', 'blocks', blocks, '{ f, g }');
  for (const block of blocks) {
    checkObject('reversible', 'blocks', block, '{ f, g }');
    checkFunction('reversible', block.f, 'f');
    checkFunction('reversible', block.g, 'g');
  }
  asTensor('reversible', 'x1', x1);
  asTensor('reversible', 'x2', x2);
  const branches = blocks.flatMap(({ f, g }) => [f, g]);
  const [y1, y2, loss] = reversibleOperator(branches, x1, x2) as [Tensor, Tensor, Tensor | null];
  return { y1, y2, loss };
}
