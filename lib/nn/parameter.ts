/** What a module owns: parameters, which train, and buffers, which do not. */
import { asTensor } from '../core/declare.js';
import { checkFlags, checkOptions } from '../core/options.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';

/** A leaf tensor that belongs to a module, is trained and saved with it, and outlives `tidy`. */
export type Parameter = Tensor;

/** @internal How a tensor belongs to its module. */
export interface Ownership {
  readonly kind: 'parameter' | 'buffer';
  /** Whether the state dict holds it. */
  readonly persistent: boolean;
  /** Whether `Module.to(dtype)` leaves it alone. */
  readonly keepDtype: boolean;
}

const owned = new WeakMap<Tensor, Ownership>();

/** @internal Undefined for tensors that are no parameter and no buffer. */
export function ownershipOf(t: Tensor): Ownership | undefined {
  return owned.get(t);
}

/** @internal Makes `t` belong to a module the way `as` says. */
export function own(t: Tensor, as: Ownership): Tensor {
  owned.set(t, as);
  return keep(t);
}

/**
 * Makes a tensor a parameter: assigned to a property of a module, it is found by `parameters()`.
 *
 * @param data a leaf of a floating dtype; the parameter is this same tensor
 * @param options.requiresGrad default true; false freezes it
 * @throws ArgumentError when `data` is the result of a recorded operator
 * @example
 * class Scale extends Module {
 *   gain = parameter(ones([8]));
 * }
 */
export function parameter(data: Tensor, options: { requiresGrad?: boolean } = {}): Parameter {
  checkOptions('parameter', options, ['requiresGrad']);
  const { requiresGrad = true } = options;
  checkFlags('parameter', { requiresGrad });
  asTensor('parameter', 'data', data).requireGrad(requiresGrad);
  return own(data, { kind: 'parameter', persistent: true, keepDtype: false });
}

/**
 * Makes a tensor a buffer: state of a module that is not trained (moving averages, tables).
 *
 * @param options.persistent default true: part of the state dict
 * @param options.keepDtype default false; true exempts it from `Module.to(dtype)`
 * @example
 * class Centred extends Module {
 *   mean = buffer(zeros([8]));
 * }
 * new Centred().stateDict(); // { mean }
 */
export function buffer(
  data: Tensor,
  options: { persistent?: boolean; keepDtype?: boolean } = {},
): Tensor {
  checkOptions('buffer', options, ['persistent', 'keepDtype']);
  const { persistent = true, keepDtype = false } = options;
  checkFlags('buffer', { persistent, keepDtype });
  asTensor('buffer', 'data', data);
  return own(data, { kind: 'buffer', persistent, keepDtype });
}
