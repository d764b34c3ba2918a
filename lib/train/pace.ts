/** Rates and times of a run. */

/** How fast a run goes and when it ends; in seconds and tokens per second. */
export interface PaceNow {
  readonly tokensPerSecond: number;
  readonly elapsed: number;
  readonly timeLeft: number;
}

/**
 * Rate over about the last ten seconds, so that it follows the present, and the time left by steps or
 * by a time limit, whichever ends first.
 */
export class Pace {
  #samples: { time: number; step: number; tokens: number }[] = [];
  #start = 0;

  /**
   * @param steps of the whole run
   * @param timeLimit seconds
   * @param clock milliseconds
   */
  constructor(
    private readonly steps: number,
    private readonly timeLimit = Number.POSITIVE_INFINITY,
    private readonly clock: () => number = () => performance.now(),
  ) {}

  start(step: number): void {
    this.#start = this.clock();
    this.#samples = [{ time: this.#start, step, tokens: 0 }];
  }

  add(step: number, tokens: number): void {
    const time = this.clock();
    this.#samples.push({ time, step, tokens });
    while (this.#samples.length > 2 && time - this.#samples[1].time > 10_000) this.#samples.shift();
  }

  /** Whether the time limit is over, or will be before another step is done. */
  exceeded(): boolean {
    return this.elapsed() + this.secondsPerStep() / 2 >= this.timeLimit;
  }

  now(): PaceNow {
    const first = this.#samples[0];
    const last = this.#samples[this.#samples.length - 1];
    const seconds = (last.time - first.time) / 1000;
    const elapsed = this.elapsed();
    const bySteps = (this.steps - last.step) * this.secondsPerStep();
    return {
      tokensPerSecond: seconds > 0 ? (last.tokens - first.tokens) / seconds : 0,
      elapsed,
      timeLeft: Math.max(0, Math.min(bySteps, this.timeLimit - elapsed)),
    };
  }

  private elapsed(): number {
    return (this.clock() - this.#start) / 1000;
  }

  private secondsPerStep(): number {
    const first = this.#samples[0];
    const last = this.#samples[this.#samples.length - 1];
    const steps = last.step - first.step;
    return steps > 0 ? (last.time - first.time) / 1000 / steps : 0;
  }
}
