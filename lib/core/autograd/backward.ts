/** The engine: walks recorded nodes from newest to oldest and hands gradients down their edges. */

import { GraphError, UnsupportedError } from '../errors.js';
import { accumulate, copy } from '../primitives.js';
import type { Tensor } from '../tensor.js';
import { defineOperator } from './define.js';
import { type Edge, type Gradient, type GraphNode, wantsGradient, withRecording } from './graph.js';

export interface BackwardOptions {
  /** Keep the graph and its intermediate results for another pass. Default false. */
  retainGraph?: boolean;
  /** Record the backward pass itself, for gradients of gradients. Implies `retainGraph`. Default false. */
  createGraph?: boolean;
}

/** The sum of two gradients of one tensor, recorded where the backward pass is. */
const addGradients = defineOperator({
  name: 'accumulate',
  composed: true,
  forward: (_ctx, a: Tensor, b: Tensor): Tensor => accumulate(a, b),
  backward: (_ctx, grad) => [grad, grad],
});

/** The gradient of one tensor, as far as it has been summed. */
class Slot {
  tensor: Tensor | null = null;
}

/** The pass under way, for backward functions that start a pass of their own. */
let pass: {
  targets: readonly Tensor[] | null;
  give(to: Tensor, gradient: Tensor, operator: string): void;
} | null = null;

/**
 * A pass inside a backward function, over a graph that function recorded. Gradients of `leaves` are
 * returned; those of parameters go where the enclosing pass sends its own: into `.grad`, or to the
 * targets it was asked for.
 */
export function propagateNested(
  roots: readonly Tensor[],
  gradRoots: readonly Tensor[],
  leaves: readonly Tensor[],
): (Tensor | null)[] {
  const outer = pass;
  if (!outer?.targets) {
    propagate(roots, gradRoots, null, {});
    return leaves.map((leaf) => {
      const gradient = leaf.grad;
      leaf.grad = null;
      return gradient;
    });
  }
  const targets = outer.targets.filter((t) => !leaves.includes(t));
  const found = propagate(roots, gradRoots, [...leaves, ...targets], {});
  targets.forEach((target, i) => {
    const gradient = found[leaves.length + i];
    if (gradient) outer.give(target, gradient, 'a nested pass');
  });
  return found.slice(0, leaves.length);
}

/**
 * Propagates `gradRoots` from `roots`.
 *
 * @param targets when given, gradients are returned for exactly these tensors and `.grad` is untouched;
 *   otherwise they accumulate into `.grad` of leaves and retained tensors
 */
export function propagate(
  roots: readonly Tensor[],
  gradRoots: readonly Tensor[],
  targets: readonly Tensor[] | null,
  { retainGraph = false, createGraph = false }: BackwardOptions,
): (Tensor | null)[] {
  const nodes = reachable(roots);
  const keep = retainGraph || createGraph;
  const slots = new Map<Tensor, Slot>();
  const targetSet = targets && new Set(targets);

  // References the engine holds per gradient tensor: the same object may flow to several places.
  const held = new Map<Tensor, number>();
  const hold = (t: Tensor) => held.set(t, (held.get(t) ?? 0) + 1);
  const drop = (t: Tensor) => {
    const n = (held.get(t) ?? 0) - 1;
    if (n > 0) held.set(t, n);
    else {
      held.delete(t);
      if (!createGraph && !foreign.has(t)) t.release('backward');
    }
  };
  const foreign = new Set<Tensor>(gradRoots);

  const give = (to: Tensor, gradient: Tensor, operator: string) => {
    if (!sameShape(to, gradient) || to.dtype !== gradient.dtype) {
      throw new GraphError(
        `backward of ${operator} returned ${gradient.toString()} as the gradient of ${to.toString()}`,
        {
          operator,
          remedy: 'A gradient has the shape and dtype of what it belongs to',
        },
      );
    }
    const slot = slots.get(to) ?? new Slot();
    slots.set(to, slot);
    if (slot.tensor === null) {
      slot.tensor = gradient;
      hold(gradient);
      return;
    }
    const before = slot.tensor;
    const sum = withRecording(createGraph, () => addGradients(before, gradient));
    hold(gradient);
    drop(gradient);
    drop(slot.tensor);
    slot.tensor = sum;
    hold(sum);
  };

  const settle = (t: Tensor, gradient: Tensor) => {
    if (targets) return;
    if (!t.isLeaf && !t.retained) return;
    const old = t.grad;
    if (old === null || old.isDisposed) {
      // Clipping and optimizers write in place: a leaf's gradient shares its memory with nothing else.
      const shared = (held.get(gradient) ?? 0) > 1 || foreign.has(gradient) || gradient.isView;
      const own = shared && !createGraph ? copy(gradient) : gradient;
      if (own === gradient) hold(gradient);
      t.grad = keepGradient(own);
    } else {
      t.grad = keepGradient(withRecording(createGraph, () => addGradients(old, gradient)));
      if (!createGraph) old.release('backward');
    }
  };

  gradRoots.forEach((gradient, i) => {
    give(roots[i] as Tensor, gradient, 'the root');
  });

  const outerPass = pass;
  pass = { targets: targets ?? null, give };
  try {
    for (const node of nodes) {
      const gradOutputs = node.outputs.map((output) => slots.get(output)?.tensor ?? null);
      if (gradOutputs.some((g) => g !== null)) {
        for (let i = 0; i < node.outputs.length; i++) {
          const g = gradOutputs[i];
          if (g) settle(node.outputs[i] as Tensor, g);
        }
        if (createGraph && !node.operator.composed) {
          throw new UnsupportedError(`${node.operator.name} has no second-order gradient`, {
            operator: node.operator.name,
            remedy:
              'Its backward is a kernel of its own; leave createGraph off, or use operators whose backward is composed',
          });
        }
        node.inputs.forEach((edge, i) => {
          node.context.needs[i] = wantsGradient(edge);
        });
        const gradients = withRecording(createGraph, () =>
          node.operator.backward(node.context, ...gradOutputs),
        );
        distribute(node, gradients, give);
      }
      // The outputs' gradients are complete and used.
      for (const output of node.outputs) {
        const slot = slots.get(output);
        if (slot?.tensor && !targetSet?.has(output)) {
          drop(slot.tensor);
          slots.delete(output);
        }
      }
    }
  } finally {
    pass = outerPass;
  }

  const results: (Tensor | null)[] = [];
  if (targets) {
    for (const target of targets) {
      const gradient = slots.get(target)?.tensor ?? null;
      // Each target gets an object of its own, so that disposing one leaves the others.
      const own =
        gradient && ((held.get(gradient) ?? 0) > 1 || foreign.has(gradient)) && !createGraph
          ? gradient.detach()
          : gradient;
      if (own && own === gradient) hold(own);
      results.push(own);
    }
  }
  for (const [t, slot] of slots) {
    if (!slot.tensor) continue;
    if (t.isLeaf) settle(t, slot.tensor);
    drop(slot.tensor);
  }
  if (!keep) consume(nodes, new Set(roots));
  return results;
}

const gradientKeepers: ((t: Tensor) => Tensor)[] = [];
/** @internal The scope floor registers how a gradient escapes `tidy`. */
export function onGradient(fn: (t: Tensor) => Tensor): void {
  gradientKeepers.push(fn);
}
function keepGradient(t: Tensor): Tensor {
  for (const fn of gradientKeepers) fn(t);
  return t;
}

function distribute(
  node: GraphNode,
  gradients: readonly (Gradient | readonly Gradient[])[],
  give: (to: Tensor, gradient: Tensor, operator: string) => void,
): void {
  node.inputs.forEach((edge: Edge, i) => {
    const gradient = gradients[i];
    if (edge === null || gradient === null || gradient === undefined) return;
    if (Array.isArray(edge)) {
      edge.forEach((t: Tensor | null, j) => {
        const g = (gradient as readonly Gradient[])[j];
        if (t?.requiresGrad && g) give(t, g, node.operator.name);
        else if (g) g.release('dispose');
      });
    } else if ((edge as Tensor).requiresGrad) {
      give(edge as Tensor, gradient as Tensor, node.operator.name);
    } else {
      (gradient as Tensor).release('dispose');
    }
  });
}

/** Recorded nodes below the roots, newest first. */
function reachable(roots: readonly Tensor[]): GraphNode[] {
  const seen = new Set<GraphNode>();
  const stack: GraphNode[] = [];
  const visit = (t: Tensor | null) => {
    if (t?.node && !seen.has(t.node)) {
      if (t.node.consumed) {
        throw new GraphError(
          `backward: the graph behind ${t.toString()} (made by ${t.node.operator.name}) was consumed by an earlier backward()`,
          {
            operator: 'backward',
            remedy: 'Pass { retainGraph: true } to the earlier call, or compute the loss again',
          },
        );
      }
      seen.add(t.node);
      stack.push(t.node);
    }
  };
  for (const root of roots) visit(root);
  for (let node = stack.pop(); node; node = stack.pop()) {
    for (const edge of node.inputs) {
      if (edge === null) continue;
      if (Array.isArray(edge)) edge.forEach(visit);
      else visit(edge as Tensor);
    }
  }
  return [...seen].sort((a, b) => b.id - a.id);
}

/** Releases what the graph recorded: intermediate results and what operators kept for backward. */
function consume(nodes: readonly GraphNode[], roots: ReadonlySet<Tensor>): void {
  for (const node of nodes) {
    node.consumed = true;
    node.context.releaseOwned('backward');
    for (const output of node.outputs) {
      // Integer outputs (indices, say) are results of their own, not part of the graph.
      if (output.node === node && !roots.has(output) && !output.retained)
        output.release('backward');
    }
  }
}

function sameShape(a: Tensor, b: Tensor): boolean {
  return a.rank === b.rank && a.shape.every((d, i) => d === b.shape[i]);
}
