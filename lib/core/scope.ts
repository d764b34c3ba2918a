/** Scopes that free what was made in them and not returned. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { ArgumentError } from './errors.js';
import type { Tensor } from './tensor.js';

class Scope {
  readonly tensors = new Set<Tensor>();
  constructor(readonly parent: Scope | undefined) {}
}

const storage = new AsyncLocalStorage<Scope>();
let used = false;

/** @internal Registers a new tensor with the scope it was made in. */
export function register(tensor: Tensor): void {
  if (used) storage.getStore()?.tensors.add(tensor);
}

/**
 * Takes a tensor out of every enclosing `tidy` scope: it lives until it is disposed or unreachable.
 *
 * @example
 * const table = tidy(() => keep(normal([8, 8])));
 */
export function keep<T extends Tensor>(tensor: T): T {
  if (typeof tensor !== 'object' || tensor === null || !('isTensor' in tensor)) {
    const value = typeof tensor === 'object' ? 'no tensor' : String(tensor);
    throw new ArgumentError('ERR_VALUE', 'keep', 'tensor', value, 'Pass a Tensor');
  }
  if (used) {
    for (let scope = storage.getStore(); scope; scope = scope.parent) scope.tensors.delete(tensor);
  }
  return tensor;
}

/**
 * Runs `fn` and disposes every tensor made in it that it does not return (directly, or inside arrays,
 * maps, sets and plain objects) and that is not {@link keep}t. With an async function the scope ends when its
 * promise settles; scopes that interleave do not see each other's tensors. Parameters, gradients and
 * optimizer state made inside are kept.
 *
 * @example
 * const x = tensor([1, 2, 3]);
 * const y = tidy(() => add(mul(x, x), x)); // x * x is freed, y is not
 */
export function tidy<T>(fn: () => T): T {
  if (typeof fn !== 'function') {
    throw new ArgumentError('ERR_VALUE', 'tidy', 'fn', String(fn), 'Pass a function');
  }
  used = true;
  const scope = new Scope(storage.getStore());
  let result: T;
  try {
    result = storage.run(scope, fn);
  } catch (error) {
    close(scope, undefined);
    throw error;
  }
  if (isPromise(result)) {
    return result.then(
      (value) => {
        close(scope, value);
        return value;
      },
      (error: unknown) => {
        close(scope, undefined);
        throw error;
      },
    ) as T;
  }
  close(scope, result);
  return result;
}

function isPromise(value: unknown): value is Promise<unknown> {
  return typeof (value as { then?: unknown } | null)?.then === 'function';
}

function close(scope: Scope, result: unknown): void {
  const returned = new Set<object>();
  collect(result, returned);
  for (const tensor of scope.tensors) {
    if (!returned.has(tensor)) tensor.release('tidy');
    else scope.parent?.tensors.add(tensor);
  }
  scope.tensors.clear();
}

/** Tensors carry a brand instead of being recognised by class: this floor must not import them. */
function collect(value: unknown, into: Set<object>): void {
  if (typeof value !== 'object' || value === null || into.has(value) || ArrayBuffer.isView(value))
    return;
  into.add(value);
  if ('isTensor' in value) return;
  if (value instanceof Map || value instanceof Set || Array.isArray(value)) {
    for (const item of value.values()) collect(item, into);
  } else {
    for (const item of Object.values(value)) collect(item, into);
  }
}
