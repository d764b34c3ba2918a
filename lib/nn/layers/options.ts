import { show } from '../../core/declare.js';
import type { DType } from '../../core/dtype.js';
import { ArgumentError } from '../../core/errors.js';
import type { Generator } from '../../core/generator.js';
import type { TensorOptions } from '../../core/primitives.js';

/** How the parameters of a layer are made. */
export interface LayerOptions {
  /** Default `f32`. */
  dtype?: DType;
  /** Default `cpu`. */
  device?: TensorOptions['device'];
  /** Draws the initial values, and what the layer draws later. Default: the device's own. */
  generator?: Generator;
}

/** @internal Names of {@link LayerOptions}. */
export const layerOptionNames = ['dtype', 'device', 'generator'] as const;

/** @internal Those options of a layer that its parts are made with too. */
export function layerOptions({ dtype, device, generator }: LayerOptions): LayerOptions {
  return {
    ...(dtype !== undefined && { dtype }),
    ...(device !== undefined && { device }),
    ...(generator !== undefined && { generator }),
  };
}

/** @internal Those of parameters that begin with one value. */
export function constantOptions({ dtype, device }: LayerOptions): TensorOptions {
  return { ...(dtype !== undefined && { dtype }), ...(device !== undefined && { device }) };
}

/** @internal Requires positive integers. */
export function checkSizes(operator: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(sizes)) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new ArgumentError('ERR_OPTION', operator, name, show(value), 'Give an integer >= 1');
  }
}

/** @internal Requires a probability below 1. */
export function checkProbability(operator: string, name: string, p: number): void {
  if (typeof p === 'number' && p >= 0 && p < 1) return;
  throw new ArgumentError('ERR_OPTION', operator, name, show(p), 'Give a number in [0, 1)');
}

/** @internal Requires one of `choices`. */
export function checkChoice<T extends string>(
  operator: string,
  name: string,
  value: unknown,
  choices: readonly T[],
): asserts value is T {
  if ((choices as readonly unknown[]).includes(value)) return;
  throw new ArgumentError(
    'ERR_OPTION',
    operator,
    name,
    show(value),
    `Use one of ${choices.map((c) => `'${c}'`).join(', ')}`,
  );
}
