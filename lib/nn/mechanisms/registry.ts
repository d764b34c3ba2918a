import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import type { Generator } from '../../core/generator.js';
import {
  checkFunction,
  checkInstance,
  checkObject,
  checkOptions,
  checkText,
} from '../../core/options.js';
import { Mechanism, type MechanismConfig } from '../mechanism.js';

/** How mechanisms are made, beside their configuration. */
export interface MechanismOptions {
  /** Draws the initial values of mechanisms that have any. Default: the device's own. */
  generator?: Generator;
}

type Maker = (options: Record<string, unknown>, made: MechanismOptions) => Mechanism;

const makers = new Map<string, Maker>();

/**
 * Makes a mechanism known by name, so that model configurations can name it.
 *
 * @param make gets the configuration's options, and what {@link mechanismFrom} was given beside them
 * @throws ArgumentError when the name is taken
 * @example
 * registerMechanism('nearby', () => new SoftmaxAttention({ causal: true, window: 64 }));
 */
export function registerMechanism(name: string, make: Maker): void {
  checkText('registerMechanism', 'name', name);
  checkFunction('registerMechanism', make, 'make');
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
 * @param options.generator draws initial values, as centroids are
 * @throws ArgumentError for a name that is not registered and for options it does not take
 * @example
 * mechanismFrom({ name: 'softmax', causal: true });
 */
export function mechanismFrom(config: MechanismConfig, made: MechanismOptions = {}): Mechanism {
  checkOptions('mechanismFrom', made, ['generator']);
  checkObject('mechanismFrom', 'config', config, "{ name: 'softmax' }, say");
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
  const mechanism = make(options, made);
  checkInstance('mechanismFrom', name, mechanism, Mechanism);
  return mechanism;
}
