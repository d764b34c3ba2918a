/**
 * Declares native operators. A declaration repeats the field list of the C++ params struct (a test
 * holds the two together through `addon.describe()`), gives it TypeScript types, and packs a call into
 * the array shared with native code.
 */
import { addon, indexOfOperator, packed, throwLast } from '../native.js';
import type { Device } from './device.js';
import { dtypes } from './dtype.js';
import { ArgumentError, DisposedError } from './errors.js';
import { Tensor } from './tensor.js';

type Kind =
  | 'input'
  | 'optional'
  | 'inputs'
  | 'inout'
  | 'inouts'
  | 'optionalInouts'
  | 'number'
  | 'integer'
  | 'flag'
  | 'choice'
  | 'integers'
  | 'group'
  | 'groupEnd'
  | 'output'
  | 'outputs';

/** A field: its kind, and the type of its value. */
export interface Field<K extends Kind, V> {
  readonly kind: K;
  readonly choices?: readonly string[];
  /** Of a group. */
  readonly fields?: Fields;
  /** Type only. */
  readonly value?: V;
}

/** The field kinds, named as in `cpp/ops/field.h`. */
export const field = {
  input: { kind: 'input' } as Field<'input', Tensor>,
  optional: { kind: 'optional' } as Field<'optional', Tensor | null | undefined>,
  inputs: { kind: 'inputs' } as Field<'inputs', readonly Tensor[]>,
  inout: { kind: 'inout' } as Field<'inout', Tensor>,
  inouts: { kind: 'inouts' } as Field<'inouts', readonly Tensor[]>,
  optionalInouts: { kind: 'optionalInouts' } as Field<'optionalInouts', readonly Tensor[]>,
  number: { kind: 'number' } as Field<'number', number>,
  integer: { kind: 'integer' } as Field<'integer', number>,
  flag: { kind: 'flag' } as Field<'flag', boolean>,
  choice: <C extends string>(...choices: readonly C[]): Field<'choice', C> => ({
    kind: 'choice',
    choices,
  }),
  integers: { kind: 'integers' } as Field<'integers', readonly number[]>,
  /** Fields that a call gives together, in an object, or not at all: null. */
  group: <const F extends Fields>(fields: F): Field<'group', ArgumentsOf<F> | null> => ({
    kind: 'group',
    fields,
  }),
  output: { kind: 'output' } as Field<'output', Tensor>,
  outputs: { kind: 'outputs' } as Field<'outputs', Tensor[]>,
};

type Fields = Readonly<Record<string, Field<Kind, unknown>>>;
type NamesOf<F extends Fields, K extends Kind> = {
  [N in keyof F]: F[N]['kind'] extends K ? N : never;
}[keyof F];
type ValueOf<F> = F extends Field<Kind, infer V> ? V : never;

/** What a declared operator takes. */
export type ArgumentsOf<F extends Fields> = {
  [N in Exclude<keyof F, NamesOf<F, 'output' | 'outputs' | 'optional'>>]: ValueOf<F[N]>;
} & { [N in NamesOf<F, 'optional'>]?: Tensor | null };

/** What it returns: an output that `validate()` left out is missing, so ask only for what you asked. */
export type ResultsOf<F extends Fields> = {
  [N in NamesOf<F, 'output' | 'outputs'>]: ValueOf<F[N]>;
};

interface Compiled {
  readonly name: string;
  readonly kind: Kind;
  readonly choices: readonly string[];
  /** How many entries follow that a call without this group leaves out. */
  readonly skip: number;
}

/** Every declaration, for the test that compares it with the addon's. */
export const declarations = new Map<string, readonly Compiled[]>();

/**
 * Declares the native operator `name`. The result validates and enqueues a call and returns its
 * outputs; it records nothing on the tape (see `defineOperator`).
 *
 * The result's `device` is used only by operators without tensor inputs; `called` names the function that
 * was called, for errors, those that show late included, where several share an operator.
 */
export function nativeOperator<const F extends Fields>(
  name: string,
  fields: F,
): (args: ArgumentsOf<F>, device?: Device, called?: string) => ResultsOf<F> {
  const compiled = Object.entries(fields).flatMap(([key, f]) => compile(key, f));
  declarations.set(name, compiled);
  const outputs = compiled.filter((f) => f.kind === 'output' || f.kind === 'outputs');
  let index = -1;

  return (args, on, called = name) => {
    if (index < 0) index = indexOfOperator(name);
    const target = pack(called, compiled, args as Record<string, unknown>, on);
    packed[1] = called === name ? 0 : nameIdOf(called);
    if (addon.call(index) !== 0) throwLast(called);
    const result: Record<string, Tensor | Tensor[]> = {};
    let cursor = 0;
    for (const f of outputs) {
      if (f.kind === 'output') {
        if (packed[cursor] === -1) cursor++;
        else {
          const rank = packed[cursor + 2] as number;
          result[f.name] = unpackTensor(cursor, rank, target);
          cursor += 3 + rank;
        }
      } else {
        const list: Tensor[] = [];
        for (let n = packed[cursor++] as number; n > 0; n--) {
          const rank = packed[cursor + 2] as number;
          list.push(unpackTensor(cursor, rank, target));
          cursor += 3 + rank;
        }
        result[f.name] = list;
      }
    }
    return result as ResultsOf<F>;
  };
}

/** A field; of a group its own fields too, between two marks. */
function compile(name: string, { kind, choices = [], fields }: Field<Kind, unknown>): Compiled[] {
  if (!fields) return [{ name, kind, choices, skip: 0 }];
  const inner = Object.entries(fields).flatMap(([key, f]) => compile(key, f));
  return [
    { name, kind, choices, skip: inner.length + 1 },
    ...inner,
    { name, kind: 'groupEnd', choices, skip: 0 },
  ];
}

/** Numbers of the names that late errors call functions by, where several share an operator. */
const nameIds = new Map<string, number>();

function nameIdOf(called: string): number {
  let id = nameIds.get(called);
  if (id === undefined) {
    id = addon.nameId(called);
    nameIds.set(called, id);
  }
  return id;
}

function unpackTensor(cursor: number, rank: number, device: Device): Tensor {
  const shape = new Array<number>(rank);
  for (let i = 0; i < rank; i++) shape[i] = packed[cursor + 3 + i] as number;
  const dtype = dtypes[packed[cursor + 1] as number];
  if (dtype === undefined) throw new Error('unreachable: native dtype out of range');
  return new Tensor(packed[cursor] as number, dtype, shape, device);
}

/** Writes the fields into the packed call and returns the device it runs on. */
function pack(
  operator: string,
  fields: readonly Compiled[],
  args: Record<string, unknown>,
  on: Device | undefined,
): Device {
  let device = on;
  let cursor = 2;
  let source = args;
  for (let i = 0; i < fields.length; i++) {
    const f = fields[i] as Compiled;
    const value = source[f.name];
    switch (f.kind) {
      case 'group':
        if (value === null || value === undefined) {
          packed[cursor++] = 0;
          i += f.skip;
        } else {
          packed[cursor++] = 1;
          source = value as Record<string, unknown>;
        }
        break;
      case 'groupEnd':
        source = args;
        break;
      case 'input':
      case 'inout':
      case 'optional': {
        if (value === undefined || value === null) {
          if (f.kind !== 'optional') throw notATensor(operator, f.name, value);
          packed[cursor++] = -1;
          break;
        }
        const tensor = asTensor(operator, f.name, value);
        device ??= tensor.device;
        packed[cursor++] = tensor.handle;
        break;
      }
      case 'inputs':
      case 'inouts':
      case 'optionalInouts': {
        const list = value as readonly unknown[];
        if (!Array.isArray(list)) throw notATensor(operator, f.name, value);
        if (cursor + list.length + 64 > packed.length) {
          throw new ArgumentError(
            'ERR_VALUE',
            operator,
            f.name,
            `a list of ${list.length} tensors`,
            'Split the call: a call takes at most about 60000 tensors',
          );
        }
        packed[cursor++] = list.length;
        for (const item of list) {
          const tensor = asTensor(operator, f.name, item);
          device ??= tensor.device;
          packed[cursor++] = tensor.handle;
        }
        break;
      }
      case 'number':
      case 'integer': {
        if (typeof value !== 'number' || (f.kind === 'integer' && !Number.isSafeInteger(value))) {
          throw new ArgumentError(
            'ERR_VALUE',
            operator,
            f.name,
            show(value),
            f.kind === 'integer' ? 'Use an integer' : 'Use a number',
          );
        }
        packed[cursor++] = value;
        break;
      }
      case 'flag':
        if (typeof value !== 'boolean') {
          throw new ArgumentError('ERR_VALUE', operator, f.name, show(value), 'Use true or false');
        }
        packed[cursor++] = value ? 1 : 0;
        break;
      case 'choice': {
        const choice = f.choices.indexOf(value as string);
        if (choice < 0) {
          throw new ArgumentError(
            'ERR_OPTION',
            operator,
            f.name,
            show(value),
            `Use one of ${f.choices.map((c) => `'${c}'`).join(', ')}`,
          );
        }
        packed[cursor++] = choice;
        break;
      }
      case 'integers': {
        const list = value as readonly number[];
        if (!Array.isArray(list) || !list.every(Number.isSafeInteger)) {
          throw new ArgumentError(
            'ERR_VALUE',
            operator,
            f.name,
            show(value),
            'Use a list of integers',
          );
        }
        packed[cursor++] = list.length;
        for (const item of list) packed[cursor++] = item;
        break;
      }
      default:
        break;
    }
  }
  if (!device) {
    throw new ArgumentError(
      'ERR_DEVICE',
      operator,
      'device',
      'absent',
      "Pass a device, for example device('cpu')",
    );
  }
  packed[0] = device.stream.id;
  return device;
}

/**
 * @internal The tensor itself; for functions that look at it before the native call does.
 * @throws ArgumentError for anything else, DisposedError for a tensor that is gone
 */
export function asTensor(operator: string, argument: string, value: unknown): Tensor {
  if (!(value instanceof Tensor)) throw notATensor(operator, argument, value);
  if (value.handle < 0) {
    throw new DisposedError(`${operator}: '${argument}' is a tensor that ${value.fate}`, {
      operator,
      argument,
      remedy: value.fateRemedy,
    });
  }
  return value;
}

function notATensor(operator: string, argument: string, value: unknown): ArgumentError {
  return new ArgumentError(
    'ERR_VALUE',
    operator,
    argument,
    show(value),
    'Pass a Tensor; tensor(data) makes one',
  );
}

/** A short text of any value, for error messages. */
export function show(value: unknown): string {
  if (typeof value === 'string')
    return `'${value.length > 60 ? `${value.slice(0, 57)}...` : value}'`;
  if (Array.isArray(value))
    return `[${value.slice(0, 8).map(show).join(', ')}${value.length > 8 ? ', ...' : ''}]`;
  if (ArrayBuffer.isView(value)) return `a ${value.constructor.name}`;
  if (typeof value === 'object' && value !== null)
    return `an object (${value.constructor?.name ?? 'no prototype'})`;
  if (typeof value === 'function') return 'a function';
  return String(value);
}
