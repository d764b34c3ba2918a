/** Option objects: a misspelt name is an error, never ignored. */
import { asTensor, show } from './declare.js';
import { ArgumentError } from './errors.js';
import type { Tensor } from './tensor.js';

/**
 * Refuses options that `operator` does not know.
 *
 * @param allowed every option name of the operator
 * @throws ArgumentError ERR_OPTION that names the option and the nearest known one
 */
export function checkOptions(operator: string, options: object, allowed: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new ArgumentError(
      'ERR_OPTION',
      operator,
      'options',
      show(options),
      allowed.length > 0 ? `Pass an object with ${list(allowed)}` : 'Leave it out',
    );
  }
  for (const name of Object.keys(options)) {
    if (allowed.includes(name)) continue;
    const near = nearest(name, allowed);
    throw new ArgumentError(
      'ERR_OPTION',
      operator,
      name,
      'not an option',
      near === undefined
        ? allowed.length > 0
          ? `Its options are ${list(allowed)}`
          : 'It has no options'
        : `Did you mean '${near}'?${allowed.length > 1 ? ` Its options are ${list(allowed)}` : ''}`,
    );
  }
}

/**
 * Refuses sizes that are not whole numbers from `least` on.
 *
 * @throws ArgumentError ERR_VALUE that names the size
 */
export function checkSizes(
  operator: string,
  sizes: Readonly<Record<string, unknown>>,
  least = 1,
): void {
  for (const [name, size] of Object.entries(sizes)) {
    if (Number.isSafeInteger(size) && (size as number) >= least) continue;
    const remedy = `Use a whole number from ${least} on`;
    throw new ArgumentError('ERR_VALUE', operator, name, show(size), remedy);
  }
}

/**
 * Refuses what is no list of whole numbers: a shape (which may leave a length open as -1), an order of axes.
 *
 * @throws ArgumentError ERR_VALUE that names the argument
 */
export function checkLengths(operator: string, argument: string, lengths: readonly number[]): void {
  if (Array.isArray(lengths) && lengths.every(Number.isSafeInteger)) return;
  const remedy = 'Use a list of whole numbers';
  throw new ArgumentError('ERR_VALUE', operator, argument, show(lengths), remedy);
}

/**
 * Refuses what is no list of live tensors.
 *
 * @throws ArgumentError, DisposedError that name the argument
 */
export function checkTensors(operator: string, argument: string, list: readonly Tensor[]): void {
  if (!Array.isArray(list)) {
    const remedy = 'Pass a list of tensors';
    throw new ArgumentError('ERR_VALUE', operator, argument, show(list), remedy);
  }
  list.forEach((t, i) => {
    asTensor(operator, `${argument}[${i}]`, t);
  });
}

/**
 * Refuses what is no function.
 *
 * @throws ArgumentError ERR_VALUE
 */
export function checkFunction(operator: string, value: unknown, argument = 'fn'): void {
  if (typeof value === 'function') return;
  throw new ArgumentError('ERR_VALUE', operator, argument, show(value), 'Pass a function');
}

/**
 * Refuses numbers that are not finite or below `least`. What is undefined was left out.
 *
 * @throws ArgumentError ERR_VALUE that names the number
 */
export function checkNumbers(
  operator: string,
  numbers: Readonly<Record<string, unknown>>,
  least = Number.NEGATIVE_INFINITY,
): void {
  for (const [name, value] of Object.entries(numbers)) {
    if (value === undefined || (Number.isFinite(value) && (value as number) >= least)) continue;
    const remedy = `Use a finite number${Number.isFinite(least) ? ` from ${least} on` : ''}`;
    throw new ArgumentError('ERR_VALUE', operator, name, show(value), remedy);
  }
}

/**
 * Refuses switches that are neither true nor false. What is undefined was left out.
 *
 * @throws ArgumentError ERR_VALUE that names the switch
 */
export function checkFlags(operator: string, flags: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(flags)) {
    if (value === undefined || typeof value === 'boolean') continue;
    throw new ArgumentError('ERR_VALUE', operator, name, show(value), 'Use true or false');
  }
}

/**
 * Refuses what is no text.
 *
 * @throws ArgumentError ERR_VALUE that names the argument
 */
export function checkText(operator: string, argument: string, value: unknown): void {
  if (typeof value === 'string') return;
  throw new ArgumentError('ERR_VALUE', operator, argument, show(value), 'Pass a string');
}

/**
 * Refuses what is no list.
 *
 * @param of what stands in it, for the error
 * @throws ArgumentError ERR_VALUE that names the argument
 */
export function checkList(operator: string, argument: string, value: unknown, of: string): void {
  if (Array.isArray(value)) return;
  throw new ArgumentError('ERR_VALUE', operator, argument, show(value), `Pass a list of ${of}`);
}

/**
 * Refuses what is no object, or a list.
 *
 * @param like what it holds, for the error
 * @throws ArgumentError ERR_VALUE that names the argument
 */
export function checkObject(
  operator: string,
  argument: string,
  value: unknown,
  like: string,
): void {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return;
  throw new ArgumentError('ERR_VALUE', operator, argument, show(value), `Pass an object: ${like}`);
}

/**
 * Refuses what is no object of the class.
 *
 * @throws ArgumentError ERR_VALUE that names the argument
 */
export function checkInstance(
  operator: string,
  argument: string,
  value: unknown,
  type: { readonly name: string; readonly prototype: object },
): void {
  if (value instanceof (type as new () => object)) return;
  throw new ArgumentError('ERR_VALUE', operator, argument, show(value), `Pass a ${type.name}`);
}

/**
 * Refuses what is no typed array of the kind named; by its tag, since it may come from another realm.
 *
 * @throws ArgumentError ERR_VALUE that names the argument
 */
export function checkArray(
  operator: string,
  argument: string,
  value: unknown,
  kind: 'Uint8Array' | 'Uint16Array' | 'Float32Array',
): void {
  if (Object.prototype.toString.call(value) === `[object ${kind}]`) return;
  throw new ArgumentError('ERR_VALUE', operator, argument, show(value), `Pass a ${kind}`);
}

/**
 * Refuses what cannot tell that a call is to end. What is undefined was left out.
 *
 * @throws ArgumentError ERR_OPTION
 */
export function checkSignal(operator: string, signal: unknown): void {
  if (signal === undefined) return;
  if (typeof (signal as AbortSignal | null)?.aborted === 'boolean') return;
  const remedy = 'Pass the signal of an AbortController';
  throw new ArgumentError('ERR_OPTION', operator, 'signal', show(signal), remedy);
}

function list(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ');
}

/** An allowed name that `name` begins, or the one with the smallest edit distance, when at most half of the letters differ. */
function nearest(name: string, allowed: readonly string[]): string | undefined {
  const longer = name.length > 2 && allowed.find((candidate) => candidate.startsWith(name));
  if (longer) return longer;
  let best: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 2)) + 1;
  for (const candidate of allowed) {
    const d = distance(name.toLowerCase(), candidate.toLowerCase());
    if (d < least) [best, least] = [candidate, d];
  }
  return best;
}

/** Levenshtein distance, one row at a time. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
