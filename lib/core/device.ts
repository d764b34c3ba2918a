import { addon, type MemoryInfo, settled, throwLast } from '../native.js';
import { show } from './declare.js';
import { ArgumentError, DeviceUnavailableError, DisposedError } from './errors.js';
import { capture, type Graph } from './graph.js';
import { checkFunction, checkInstance } from './options.js';

export type { MemoryInfo } from '../native.js';

/** An in-order queue of work on a device. */
export class Stream {
  readonly device: Device;
  readonly #id: number;
  #closed = false;
  #previous: Promise<void> | null = null;

  /** @internal */
  constructor(device: Device, id: number) {
    this.device = device;
    this.#id = id;
  }

  /**
   * @internal
   * @throws DisposedError once it is closed
   */
  get id(): number {
    if (!this.#closed) return this.#id;
    throw new DisposedError('the stream is closed', {
      operator: 'Stream',
      remedy: 'Use it before close(), or make another with device.newStream()',
    });
  }

  /** Tasks enqueued and not yet run. */
  get pending(): number {
    return addon.pending(this.id);
  }

  /** Resolves once everything enqueued so far has run. */
  synchronize(): Promise<void> {
    return settled('synchronize', (id) => addon.mark(this.id, id));
  }

  /** Blocks this thread, and with it the event loop, until everything enqueued so far has run. */
  synchronizeSync(): void {
    if (addon.synchronizeSync(this.id) !== 0) throwLast('synchronizeSync');
  }

  /**
   * Backpressure: resolves once the work enqueued before the previous call has run, so that a loop
   * calling it every step stays one step ahead of the device and never further.
   */
  async ready(): Promise<void> {
    const previous = this.#previous;
    this.#previous = this.synchronize();
    this.#previous.catch(() => undefined);
    if (previous) await previous;
  }

  /** Lets the stream go; what is enqueued still runs. */
  close(): void {
    if (!this.#closed) addon.closeStream(this.#id);
    this.#closed = true;
  }
}

const cache = new Map<string, Device>();

/**
 * Where tensors live and operators run: `cpu`, or `cuda:N`.
 *
 * @example
 * const cpu = device('cpu');
 * console.log(cpu.memory().active);
 */
export class Device {
  readonly type: 'cpu' | 'cuda';
  readonly index: number;
  /** @internal The addon's number: 0 is the CPU, 1 + n is cuda:n. */
  readonly native: number;
  readonly #default: Stream;
  #current: Stream;

  /** @internal */
  constructor(type: 'cpu' | 'cuda', index: number, native: number, stream: number) {
    this.type = type;
    this.index = index;
    this.native = native;
    this.#default = new Stream(this, stream);
    this.#current = this.#default;
  }

  /** `cpu` or `cuda:N`. */
  get name(): string {
    return this.type === 'cpu' ? 'cpu' : `cuda:${this.index}`;
  }

  /** The stream operators are enqueued on: the default one, or the one of `withStream`. */
  get stream(): Stream {
    return this.#current;
  }

  /** A further stream; tensors shared between streams order themselves. */
  newStream(): Stream {
    return new Stream(this, openStream(this.name, this.native));
  }

  /** Runs the synchronous `fn` with `stream` as the current stream of this device. */
  withStream<T>(stream: Stream, fn: () => T): T {
    checkInstance('withStream', 'stream', stream, Stream);
    checkFunction('withStream', fn);
    if (stream.device !== this) {
      throw new ArgumentError(
        'ERR_DEVICE',
        'withStream',
        'stream',
        `a stream of ${stream.device.name}`,
        `Use a stream made by device('${this.name}').newStream()`,
      );
    }
    const before = this.#current;
    this.#current = stream;
    try {
      return fn();
    } finally {
      this.#current = before;
    }
  }

  /** Bytes in use, highest use since `resetPeakMemory`, bytes cached for reuse, limit (0: none). */
  memory(): MemoryInfo {
    return addon.memory(this.native);
  }

  /** Bytes this device may hold, 0 for no limit. Beyond it an operator fails with `OutOfMemoryError`. */
  setMemoryLimit(bytes: number): void {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new ArgumentError(
        'ERR_VALUE',
        'setMemoryLimit',
        'bytes',
        show(bytes),
        'Use a whole number of bytes, or 0 for no limit',
      );
    }
    addon.memoryControl(this.native, 'limit', bytes);
  }

  resetPeakMemory(): void {
    addon.memoryControl(this.native, 'resetPeak');
  }

  /** Returns cached memory to the system. */
  emptyCache(): void {
    addon.memoryControl(this.native, 'emptyCache');
  }

  /**
   * Runs `fn` once and records what it enqueues on the current stream, to be run again by
   * {@link Graph.replay}: on a GPU one launch of a CUDA graph instead of a launch per operator.
   *
   * A replay runs the same kernels on the same memory. What changes from run to run (a cache's
   * length, positions, the state of a generator, a learning rate) must be read from tensors that the
   * recorded operators update or that `tensor.write` overwrites between replays. Tensors that `fn`
   * returns are {@link Graph.result} and hold the newest run's values; the others it makes are freed.
   * Run `fn` once before recording it when it makes something on first use (an optimizer's state):
   * recorded, that would be made anew by every replay.
   *
   * @throws ArgumentError when `fn` reads a result, or records inside a recording
   * @example
   * const x = tensor([1, 2, 3]);
   * using graph = device('cpu').capture(() => mul(x, x));
   * x.write(Float32Array.of(4, 5, 6));
   * graph.replay();
   * console.log(await graph.result.data()); // 16, 25, 36
   */
  capture<T>(fn: () => T): Graph<T> {
    checkFunction('capture', fn);
    return capture(this.#current, fn);
  }

  /** Resolves once everything enqueued on the current stream has run. */
  synchronize(): Promise<void> {
    return this.#current.synchronize();
  }

  /** Blocks the thread until everything enqueued on the current stream has run. */
  synchronizeSync(): void {
    this.#current.synchronizeSync();
  }

  /** Backpressure for loops that outrun the device, see {@link Stream.ready}. */
  ready(): Promise<void> {
    return this.#current.ready();
  }

  toString(): string {
    return this.name;
  }
}

function openStream(name: string, native: number): number {
  const id = addon.openStream(native);
  if (id < 0) {
    const [, , why] = addon.lastError();
    throw new DeviceUnavailableError(`device '${name}' cannot be used: ${why}`, {
      value: name,
      remedy: `Use device('cpu') or device('auto'); 'npx longspan doctor' shows what is missing`,
    });
  }
  return id;
}

let fallbackReason: string | null = null;

/**
 * The device of that name. `'cuda'` is `'cuda:0'` and throws when it cannot be used; only `'auto'`
 * falls back to the CPU, and {@link autoFallbackReason} then says why.
 *
 * @throws DeviceUnavailableError when the device cannot be used, with what is missing
 * @throws ArgumentError when the name is none of `cpu`, `cuda`, `cuda:N`, `auto`
 * @example
 * const cpu = device('cpu');
 * const fastest = device('auto'); // a GPU where there is a usable one
 * zeros([2, 3], { device: fastest }).device.name;
 */
export function device(name: string | Device = 'cpu'): Device {
  if (name instanceof Device) return name;
  const known = cache.get(name);
  if (known) return known;
  if (name === 'auto') {
    let chosen: Device;
    try {
      chosen = device('cuda');
    } catch (error) {
      fallbackReason = (error as Error).message;
      chosen = device('cpu');
    }
    cache.set('auto', chosen);
    return chosen;
  }
  const match = typeof name === 'string' && /^(?:(cpu)|cuda(?::(\d{1,3}))?)$/.exec(name);
  if (!match) {
    throw new ArgumentError(
      'ERR_DEVICE',
      'device',
      'name',
      show(name),
      "Use 'cpu', 'cuda', 'cuda:N', 'auto' or a Device",
    );
  }
  const index = Number(match[2] ?? 0);
  const native = match[1] ? 0 : 1 + index;
  const made =
    cache.get(match[1] ? 'cpu' : `cuda:${index}`) ??
    new Device(match[1] ? 'cpu' : 'cuda', index, native, openStream(name, native));
  cache.set(name, made);
  cache.set(made.name, made);
  return made;
}

/**
 * Why `device('auto')` chose the CPU, or null when it did not.
 *
 * @example
 * if (device('auto').name === 'cpu') console.log(autoFallbackReason());
 */
export function autoFallbackReason(): string | null {
  return fallbackReason;
}

/**
 * Threads that compute on the CPU from now on, for every environment of the process. At most
 * `LONGSPAN_NUM_THREADS` (default: the CPUs this process may use). Results do not depend on it.
 *
 * @returns the number in force
 * @example
 * const threads = setNumThreads(1);
 * console.log(threads); // 1
 */
export function setNumThreads(threads: number): number {
  if (!Number.isSafeInteger(threads) || threads < 1) {
    throw new ArgumentError(
      'ERR_VALUE',
      'setNumThreads',
      'threads',
      show(threads),
      'Use a whole number from 1 on',
    );
  }
  return addon.setThreads(Math.min(threads, addon.info().threads));
}
