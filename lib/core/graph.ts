/** Work recorded once and run again. */
import { addon, throwLast } from '../native.js';
import type { Stream } from './device.js';
import { tidy } from './scope.js';

/** What {@link Device.capture} recorded. */
export class Graph<T = unknown> {
  /** What the recorded function returned; its tensors hold the values of the newest run. */
  readonly result: T;
  readonly #id: number;
  readonly #stream: Stream;

  /** @internal */
  constructor(id: number, stream: Stream, result: T) {
    this.#id = id;
    this.#stream = stream;
    this.result = result;
  }

  /**
   * Enqueues the recorded work again, on the device's current stream.
   * @throws DisposedError after `dispose`
   */
  replay(): T {
    if (addon.replay(this.#id, this.#stream.device.stream.id) !== 0) throwLast('replay');
    return this.result;
  }

  /** Lets the recording and its memory go; the tensors of {@link result} keep their last values. */
  dispose(): void {
    addon.releaseGraph(this.#id);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

let capturing = 0;

/** @internal Whether a function is being recorded: what it decides on the host, replays do not decide again. */
export function isCapturing(): boolean {
  return capturing > 0;
}

/** @internal See `Device.capture`. */
export function capture<T>(stream: Stream, fn: () => T): Graph<T> {
  // What fn returns goes with a recording that fails.
  return tidy(() => {
    if (addon.beginCapture(stream.id) !== 0) throwLast('capture');
    let result: T;
    capturing++;
    try {
      result = tidy(fn);
    } catch (error) {
      const recorded = addon.endCapture(stream.id);
      if (recorded >= 0) addon.releaseGraph(recorded);
      throw error;
    } finally {
      capturing--;
    }
    const id = addon.endCapture(stream.id);
    if (id < 0) throwLast('capture');
    const graph = new Graph(id, stream, result);
    // A GPU has only recorded so far; the processor has run it already.
    if (stream.device.type === 'cuda') graph.replay();
    return graph;
  });
}
