/** The recorded graph: one node per call of a differentiable operator. */
import { GraphError } from '../errors.js';
import { checkFunction } from '../options.js';
import type { Tensor } from '../tensor.js';

/** A forward argument as the graph keeps it: what gradients flow to, in the argument's own structure. */
export type Edge = Tensor | null | readonly (Tensor | null)[];

/** The part of an operator definition the engine needs. */
export interface Differentiable {
  readonly name: string;
  /** Whether `backward` consists of recorded operators, so that it can be differentiated again. */
  readonly composed?: boolean;
  backward(
    ctx: Context,
    ...gradOutputs: (Tensor | null)[]
  ): readonly (Gradient | readonly Gradient[])[];
}
export type Gradient = Tensor | null | undefined;

/**
 * What `forward` leaves for `backward`.
 * @typeParam S the operator's own state
 */
export class Context<S = unknown> {
  /** Anything `backward` needs beside tensors. */
  state!: S;
  /** Per forward argument: whether its gradient is wanted. Set before `backward` runs. */
  readonly needs: boolean[] = [];
  #saved: Tensor[] = [];
  #versions: number[] = [];
  #owned: Tensor[] = [];
  readonly #operator: string;

  constructor(operator: string) {
    this.#operator = operator;
  }

  /** Keeps tensors for backward; a later in-place write to one of them makes backward throw. */
  save(...tensors: Tensor[]): void {
    for (const t of tensors) {
      this.#saved.push(t);
      this.#versions.push(t.storage.version);
    }
  }

  /** Keeps tensors that forward made for backward alone (statistics, masks): they die with the graph. */
  own(...tensors: Tensor[]): void {
    this.save(...tensors);
    this.#owned.push(...tensors);
  }

  /**
   * The saved tensors, in the order of `save` and `own`.
   * @throws GraphError when one was written in place or disposed since
   */
  saved(): Tensor[] {
    this.#saved.forEach((t, i) => {
      if (t.isDisposed) {
        throw new GraphError(`backward of ${this.#operator}: a tensor it saved ${t.fate}`, {
          operator: this.#operator,
          remedy: 'Keep inputs and results of recorded operators alive until backward()',
        });
      }
      if (t.storage.version !== this.#versions[i]) {
        throw new GraphError(
          `backward of ${this.#operator}: ${t.toString()}, saved by it, was written in place afterwards`,
          {
            operator: this.#operator,
            remedy: 'Write in place after backward(), or work on a clone()',
          },
        );
      }
    });
    return this.#saved;
  }

  /** @internal */
  releaseOwned(fate: 'backward' | 'dispose'): void {
    for (const t of this.#owned) t.release(fate);
    this.#owned = [];
    this.#saved = [];
  }
}

let nextNode = 1;

export class GraphNode {
  /** Grows with time, so descending order is a reverse topological order. */
  readonly id = nextNode++;
  consumed = false;
  constructor(
    readonly operator: Differentiable,
    readonly context: Context,
    readonly inputs: readonly Edge[],
    readonly outputs: readonly Tensor[],
  ) {}
}

/** A gradient function with respect to tensors: does it flow here? */
export function wantsGradient(edge: Edge): boolean {
  if (edge === null) return false;
  return Array.isArray(edge) ? edge.some((t) => t?.requiresGrad) : (edge as Tensor).requiresGrad;
}

let recording = true;

/**
 * Whether operators are recorded at this moment.
 *
 * @example
 * isRecording(); // true
 * noGrad(() => isRecording()); // false
 */
export function isRecording(): boolean {
  return recording;
}

/** @internal Runs the synchronous `fn` with recording set to `value`. */
export function withRecording<T>(value: boolean, fn: () => T): T {
  const before = recording;
  recording = value;
  try {
    return fn();
  } finally {
    recording = before;
  }
}

/**
 * Runs the synchronous `fn` without recording: results need no gradient and hold no graph. An async
 * function is refused: what it does after its first `await` would be recorded again.
 *
 * @example
 * const layer = new Linear(4, 2);
 * const prediction = noGrad(() => layer.forward(ones([1, 4])));
 * console.log(prediction.requiresGrad); // false
 */
export function noGrad<T>(fn: () => T): T {
  checkFunction('noGrad', fn);
  const result = withRecording(false, fn);
  if (typeof (result as { then?: unknown } | null)?.then === 'function') {
    throw new GraphError(
      'noGrad: the function is async, so recording would resume at its first await',
      {
        operator: 'noGrad',
        remedy: 'Wrap the synchronous parts, each in a noGrad of its own',
      },
    );
  }
  return result;
}
