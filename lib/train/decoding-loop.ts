/** Decoding that feeds itself: what one step chooses on the device, the next one reads there. */

import { noGrad } from '../core/autograd/index.js';
import { show } from '../core/declare.js';
import type { Device } from '../core/device.js';
import { ArgumentError, UnsupportedError } from '../core/errors.js';
import type { Graph } from '../core/graph.js';
import { assign, copy } from '../core/primitives.js';
import { keep, tidy } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { reshape } from '../core/views.js';

/** What a decoder remembers. */
export interface DecoderState {
  /**
   * Makes room for a step of `count` tokens that is about to be recorded. A state whose steps find room on
   * the device does without.
   *
   * @throws OutOfMemoryError when there is none
   */
  prepare?(count: number): void;
  /**
   * Counts a step of `count` tokens that is run by a replay, in which nothing happens on the host.
   * A state that counts nothing there does without.
   *
   * @throws ArgumentError, OutOfMemoryError when there is no room for them
   */
  replaying?(count: number): void;
  dispose(): void;
}

/** What decides whether a model's steps are recorded. */
export interface Capturable {
  /**
   * Whether a step with one token per row may be recorded once and replayed: all that changes from
   * step to step is read from device tensors that the step itself updates. Default false.
   */
  readonly capturable?: boolean;
}

/**
 * Whether to record the step: as asked, else on a GPU where the model allows it.
 *
 * @throws ArgumentError, UnsupportedError when it is asked for and the model does not allow it
 */
export function wantsCapture(
  operator: string,
  model: Capturable,
  device: Device,
  asked: boolean | undefined,
): boolean {
  if (asked !== undefined && typeof asked !== 'boolean') {
    const remedy = 'Use true or false, or leave it out';
    throw new ArgumentError('ERR_OPTION', operator, 'capture', show(asked), remedy);
  }
  if (asked && !model.capturable) {
    throw new UnsupportedError(`${operator}: steps of this model cannot be recorded`, {
      operator,
      argument: 'capture',
      value: 'true',
      remedy: 'Leave capture out, or use mechanisms whose `capturable` is true',
    });
  }
  return asked ?? (device.type === 'cuda' && model.capturable === true);
}

/** Options of {@link DecodingLoop}. */
export interface DecodingLoopOptions {
  /** Tokens the first step reads, i32 [rows] or [rows, 1]. */
  readonly first: Tensor;
  /** Takes one token per row, i32 [rows, 1], and chooses the next: i32 [rows]. */
  readonly step: (ids: Tensor) => Tensor;
  /** What `step` changes. */
  readonly state: DecoderState;
  /** Record the step, see {@link wantsCapture}. */
  readonly capture: boolean;
}

/**
 * Steps enqueued one after the other without the host knowing what they choose. With `capture` the
 * second step is recorded (the first makes what is made on first use), and from the third on a step is
 * one replay.
 */
export class DecodingLoop {
  readonly #ids: Tensor;
  readonly #options: DecodingLoopOptions;
  #graph: Graph | null = null;
  #steps = 0;

  constructor(options: DecodingLoopOptions) {
    this.#options = options;
    const { first } = options;
    this.#ids = keep(tidy(() => copy(reshape(first, [first.dim(0), 1]))));
  }

  /** Enqueues a step. */
  advance(): void {
    const { capture, state } = this.#options;
    if (this.#graph) {
      state.replaying?.(1);
      this.#graph.replay();
    } else if (capture && this.#steps === 1) {
      state.prepare?.(1);
      this.#graph = this.#ids.device.capture(() => this.#run());
    } else {
      tidy(() => this.#run());
    }
    this.#steps++;
  }

  /** What the newest step has chosen, one token per row; later steps do not change it. */
  read(): Promise<Int32Array> {
    const chosen = this.#ids.data() as Promise<Int32Array>;
    chosen.catch(() => undefined); // whoever asked ahead may never await it
    return chosen;
  }

  /** Lets the recording and its memory go. */
  dispose(): void {
    this.#graph?.dispose();
    this.#ids.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  #run(): void {
    noGrad(() => assign(this.#ids, reshape(this.#options.step(this.#ids), [-1, 1])));
  }
}
