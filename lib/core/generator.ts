import { beforeDraw } from './autograd/replay.js';
import { fromBytes } from './create.js';
import { field, nativeOperator, show } from './declare.js';
import { type Device, device as deviceOf } from './device.js';
import { ArgumentError, CheckpointError } from './errors.js';
import { assign } from './primitives.js';
import { keep } from './scope.js';
import type { Tensor } from './tensor.js';

const advanceCall = nativeOperator('advanceGenerator', {
  state: field.inout,
  blocks: field.integer,
  used: field.output,
});

/** The state of a {@link Generator}, fit for JSON. */
export interface GeneratorState {
  readonly algorithm: 'philox4x32-10';
  /** Four signed 32-bit words: seed low, seed high, offset low, offset high. */
  readonly words: readonly number[];
}

const defaults = new Map<Device, Generator>();

/**
 * Random numbers on a device: Philox4x32-10 (Salmon et al. 2011), which computes number i of a seed
 * directly, so that the same seed gives the same numbers on every device and with any number of
 * threads. The state is a small tensor on the device, read by operators when they run.
 *
 * @example
 * const generator = new Generator(7);
 * const a = uniform([2, 3], { generator });
 * generator.seed(7);
 * const b = uniform([2, 3], { generator }); // equal to a
 */
export class Generator {
  readonly device: Device;
  readonly #state: Tensor;

  /**
   * @param seed an integer, see {@link Generator.seed}
   * @param device default `cpu`
   */
  constructor(seed = 0, device?: Device | string) {
    this.device = deviceOf(device);
    this.#state = keep(fromBytes(wordsOf(seed), [4], 'i32', this.device));
  }

  /** The generator operators of a device use when none is given. It starts from seed 0. */
  static default(device?: Device | string): Generator {
    const on = deviceOf(device);
    let generator = defaults.get(on);
    if (!generator) {
      generator = new Generator(0, on);
      defaults.set(on, generator);
    }
    return generator;
  }

  /**
   * Starts anew from a seed, in stream order.
   *
   * @throws ArgumentError unless the seed is a safe integer
   */
  seed(seed: number): this {
    this.#state.write(wordsOf(seed));
    return this;
  }

  /** The exact state once everything enqueued so far has drawn its numbers. */
  async state(): Promise<GeneratorState> {
    return { algorithm: 'philox4x32-10', words: [...(await this.#state.data())] };
  }

  /** As `state()`, blocking the thread until the device gets there. */
  stateSync(): GeneratorState {
    return { algorithm: 'philox4x32-10', words: [...this.#state.dataSync()] };
  }

  /**
   * Continues from a state.
   *
   * @throws CheckpointError when it is not the state of such a generator
   */
  setState(state: GeneratorState): this {
    const { algorithm, words } = (state ?? {}) as Partial<GeneratorState>;
    if (
      algorithm !== 'philox4x32-10' ||
      !Array.isArray(words) ||
      words.length !== 4 ||
      !words.every((word) => Number.isInteger(word) && (word | 0) === word)
    ) {
      throw new CheckpointError(`Generator: the state is ${show(state)}`, {
        operator: 'Generator.setState',
        argument: 'state',
        remedy: "Pass what state() gave: { algorithm: 'philox4x32-10', words: [four integers] }",
      });
    }
    this.#state.write(Int32Array.from(words));
    return this;
  }

  /** Another generator that continues with the same numbers. */
  clone(): Generator {
    const other = new Generator(0, this.device);
    assign(other.#state, this.#state);
    return other;
  }

  /** Frees the state; nothing can be drawn afterwards. */
  dispose(): void {
    this.#state.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /**
   * Reserves numbers for one operator: a copy of the state before, which the operator reads.
   *
   * @param words how many 32-bit words the operator takes
   * @internal
   */
  draw(words: number): Tensor {
    beforeDraw(this.#state);
    const { used } = advanceCall({ state: this.#state, blocks: Math.ceil(words / 4) });
    this.#state.storage.version++;
    return used;
  }
}

/**
 * Seeds the default generator of a device.
 *
 * @example
 * manualSeed(1234);
 */
export function manualSeed(seed: number, device?: Device | string): void {
  Generator.default(device).seed(seed);
}

/** @internal The generator an operator draws from: the one given, or the default of the device. */
export function generatorFor(
  operator: string,
  generator: Generator | undefined,
  on: Device,
): Generator {
  if (generator === undefined) return Generator.default(on);
  if (!(generator instanceof Generator)) {
    throw new ArgumentError(
      'ERR_OPTION',
      operator,
      'generator',
      show(generator),
      'Pass a Generator: new Generator(seed)',
    );
  }
  if (generator.device !== on) {
    throw new ArgumentError(
      'ERR_DEVICE',
      operator,
      'generator',
      `on ${generator.device.name}`,
      `Use one of ${on.name}: new Generator(seed, '${on.name}')`,
    );
  }
  return generator;
}

function wordsOf(seed: number): Int32Array {
  if (!Number.isSafeInteger(seed)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'Generator',
      'seed',
      show(seed),
      'Use an integer between -(2^53 - 1) and 2^53 - 1',
    );
  }
  const bits = BigInt.asUintN(64, BigInt(seed));
  return Int32Array.of(
    Number(BigInt.asIntN(32, bits)),
    Number(BigInt.asIntN(32, bits >> 32n)),
    0,
    0,
  );
}
