import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import type { Mechanism, MechanismConfig } from '../mechanism.js';

const makers = new Map<string, (options: Record<string, unknown>) => Mechanism>();

/**
 * Makes a mechanism known by name, so that model configurations can name it.
 *
 * @throws ArgumentError when the name is taken
 * @example
 * registerMechanism('nearby', () => new SoftmaxAttention({ causal: true, window: 64 }));
 */
export function registerMechanism(
  name: string,
  make: (options: Record<string, unknown>) => Mechanism,
): void {
  if (makers.has(name)) {
    const remedy = 'Choose another name';
    throw new ArgumentError(
      'ERR_VALUE',
      'registerMechanism',
      'name',
      `${show(name)}, taken`,
      remedy,
    );
  }
  makers.set(name, make);
}

/**
 * A new mechanism from its configuration.
 *
 * @throws ArgumentError for a name that is not registered and for options it does not take
 * @example
 * mechanismFrom({ name: 'softmax', causal: true });
 */
export function mechanismFrom(config: MechanismConfig): Mechanism {
  const { name, ...options } = config;
  const make = makers.get(name);
  if (!make) {
    throw new ArgumentError(
      'ERR_OPTION',
      'mechanismFrom',
      'name',
      show(name),
      `Use one of ${[...makers.keys()].map((n) => `'${n}'`).join(', ')}, or register it`,
    );
  }
  return make(options);
}
