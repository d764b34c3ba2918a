/** The losses of a run, bounded in size however long it runs. */

import { show } from '../core/declare.js';
import { ArgumentError, CheckpointError } from '../core/errors.js';
import { checkObject, checkSizes } from '../core/options.js';

/** A validation result. */
export interface Evaluation {
  readonly step: number;
  /** Validation loss, in nats per token. */
  readonly loss: number;
}

/** A history as JSON. */
export interface HistoryState {
  /** Steps that one point stands for. */
  readonly stride: number;
  /** Step at the end of each point, and the mean loss of its steps. */
  readonly steps: readonly number[];
  readonly losses: readonly number[];
  /** Sum and number of the losses of the point that is not complete. */
  readonly open: readonly [sum: number, count: number];
  readonly evaluations: readonly Evaluation[];
}

/**
 * Training losses, each point the mean of `stride` steps. When there are too many points, neighbours
 * are merged and the stride doubles: memory stays bounded and every loss counts. A history restored
 * from its state continues exactly.
 *
 * @example
 * const history = new History();
 * history.add(1, 5.5);
 * const same = History.from(JSON.parse(JSON.stringify(history.state())));
 */
export class History {
  #stride = 1;
  #steps: number[] = [];
  #losses: number[] = [];
  #sum = 0;
  #count = 0;
  readonly #evaluations: Evaluation[] = [];
  readonly #limit: number;

  /** @param limit most points kept, an even number */
  constructor(limit = 2048) {
    if (!Number.isSafeInteger(limit) || limit < 2 || limit % 2 !== 0) {
      const remedy = 'Give an even number from 2 on';
      throw new ArgumentError('ERR_VALUE', 'History', 'limit', show(limit), remedy);
    }
    this.#limit = limit;
  }

  /** @throws CheckpointError when `state` is not a history's */
  static from(state: HistoryState, limit = 2048): History {
    const history = new History(limit);
    const { stride, steps, losses, open, evaluations } = state ?? {};
    const valid =
      Number.isSafeInteger(stride) &&
      Array.isArray(steps) &&
      Array.isArray(losses) &&
      Array.isArray(open) &&
      Array.isArray(evaluations) &&
      steps.length === losses.length &&
      open.length === 2 &&
      [...steps, ...losses, ...open].every(Number.isFinite);
    if (!valid) {
      throw new CheckpointError('the history of losses in the checkpoint is not valid', {
        argument: 'history',
        remedy: 'Use a checkpoint as it was written',
      });
    }
    history.#stride = stride;
    history.#steps = [...steps];
    history.#losses = [...losses];
    [history.#sum, history.#count] = open;
    history.#evaluations.push(...evaluations);
    return history;
  }

  /** Adds the loss of a step; steps come in order. */
  add(step: number, loss: number): void {
    checkSizes('History.add', { step }, 0);
    if (typeof loss !== 'number') {
      throw new ArgumentError('ERR_VALUE', 'History.add', 'loss', show(loss), 'Give a number');
    }
    this.#sum += loss;
    this.#count++;
    if (this.#count < this.#stride) return;
    this.#steps.push(step);
    this.#losses.push(this.#sum / this.#count);
    this.#sum = 0;
    this.#count = 0;
    if (this.#steps.length < this.#limit) return;
    const half = this.#limit / 2;
    this.#losses = Array.from(
      { length: half },
      (_, i) => (this.#losses[2 * i] + this.#losses[2 * i + 1]) / 2,
    );
    this.#steps = Array.from({ length: half }, (_, i) => this.#steps[2 * i + 1]);
    this.#stride *= 2;
  }

  addEvaluation(evaluation: Evaluation): void {
    checkObject('History.addEvaluation', 'evaluation', evaluation, '{ step, loss }');
    this.#evaluations.push(evaluation);
  }

  /** Training losses, as `{ steps, losses }` of equal length. */
  get training(): { steps: readonly number[]; losses: readonly number[] } {
    return { steps: this.#steps, losses: this.#losses };
  }

  get evaluations(): readonly Evaluation[] {
    return this.#evaluations;
  }

  /** The evaluation with the smallest loss. */
  get best(): Evaluation | undefined {
    return this.#evaluations.reduce<Evaluation | undefined>(
      (best, one) => (best === undefined || one.loss < best.loss ? one : best),
      undefined,
    );
  }

  state(): HistoryState {
    return {
      stride: this.#stride,
      steps: [...this.#steps],
      losses: [...this.#losses],
      open: [this.#sum, this.#count],
      evaluations: [...this.#evaluations],
    };
  }
}
