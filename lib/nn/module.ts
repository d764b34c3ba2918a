import { noGrad } from '../core/autograd/index.js';
import { asTensor, show } from '../core/declare.js';
import { type Device, device as deviceOf } from '../core/device.js';
import { type DType, dtypes, isFloating } from '../core/dtype.js';
import { ArgumentError, CheckpointError } from '../core/errors.js';
import { checkFlags, checkFunction, checkObject, checkOptions } from '../core/options.js';
import { assign, copy } from '../core/primitives.js';
import { Tensor } from '../core/tensor.js';
import { type Ownership, own, ownershipOf, type Parameter } from './parameter.js';

/** Tensors by state name. */
export type StateDict = Readonly<Record<string, Tensor>>;

/** Options of {@link Module.loadStateDict}. */
export interface LoadStateOptions {
  /** Throw for names on one side only. Default true. */
  strict?: boolean;
}

/** Names that one side of a load lacks. Both are empty after a strict load. */
export interface LoadResult {
  missing: string[];
  unexpected: string[];
}

/** A parameter or buffer where it hangs. */
interface Place {
  readonly name: string;
  readonly tensor: Tensor;
  readonly ownership: Ownership;
  set(t: Tensor): void;
}

/**
 * A part of a network: parameters, buffers and further modules, held in ordinary properties (arrays
 * of them too). `#private` properties are not looked at.
 *
 * A property's name in the state dict is its name in snake case, digits left where they are
 * (`selfAttn.inProjWeight` is `self_attn.in_proj_weight`, as in PyTorch), unless the static
 * `stateNames` of its class gives another; an empty name there puts what the child holds directly
 * beside the parent's own.
 *
 * @example
 * class Classifier extends Module {
 *   readonly hidden = new Linear(4, 8);
 *   readonly output = new Linear(8, 2);
 *   forward(x: Tensor) {
 *     return this.output.forward(relu(this.hidden.forward(x)));
 *   }
 * }
 * new Classifier().stateDict(); // hidden.weight, hidden.bias, output.weight, output.bias
 */
export abstract class Module {
  /** State names of properties that snake case does not give. */
  static readonly stateNames: Readonly<Record<string, string>> = {};

  /** Whether dropout and the like are active; see {@link train} and {@link eval}. */
  training = true;

  /** Direct children by state name. */
  *namedChildren(): Generator<[string, Module]> {
    for (const [name, value] of this.#properties())
      if (value instanceof Module) yield [name, value];
  }

  /** This module under the name `''`, then everything below it, parents first. Each object once. */
  *namedModules(prefix = '', seen = new Set<Module>()): Generator<[string, Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren())
      yield* child.namedModules(join(prefix, name), seen);
  }

  /** This module and everything below it, parents first. */
  *modules(): Generator<Module> {
    for (const [, module] of this.namedModules()) yield module;
  }

  /** Parameters of the whole tree by state name. A shared one comes once, under its first name. */
  *namedParameters(): Generator<[string, Parameter]> {
    yield* this.#named('parameter');
  }

  /** Buffers of the whole tree by state name, those outside the state dict included. */
  *namedBuffers(): Generator<[string, Tensor]> {
    yield* this.#named('buffer');
  }

  /** Parameters of the whole tree, each once. */
  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, t]) => t);
  }

  /** Number of trained numbers; shared parameters count once. */
  parameterCount(): number {
    return this.parameters().reduce((n, t) => n + t.size, 0);
  }

  /** Parameters and persistent buffers by state name: the live tensors, not copies. */
  stateDict(): Record<string, Tensor> {
    const dict: Record<string, Tensor> = {};
    const seen = new Set<Tensor>();
    for (const { name, tensor, ownership } of this.#places()) {
      if (!ownership.persistent || seen.has(tensor)) continue;
      seen.add(tensor);
      dict[name] = tensor;
    }
    return dict;
  }

  /**
   * Copies values into the parameters and persistent buffers, converted to their dtype. A shared
   * tensor may be given under any of its names. Nothing is written when an error is thrown.
   *
   * @throws CheckpointError for shapes that differ, and, unless `strict` is false, for names that
   *   are missing or unexpected
   */
  loadStateDict(dict: StateDict, options: LoadStateOptions = {}): LoadResult {
    checkObject('loadStateDict', 'dict', dict, 'tensors by name');
    checkOptions('loadStateDict', options, ['strict']);
    const { strict = true } = options;
    checkFlags('loadStateDict', { strict });
    const shapes = Object.fromEntries(
      Object.entries(dict).map(([name, t]) => [name, asTensor('loadStateDict', name, t).shape]),
    );
    const plan = this.planLoad(shapes, strict);
    noGrad(() => {
      for (const [name, target] of plan.targets) write(target, dict[name] as Tensor);
    });
    return { missing: plan.missing, unexpected: plan.unexpected };
  }

  /** @internal Checks names and shapes before a load; what goes where. */
  planLoad(
    shapes: Readonly<Record<string, readonly number[]>>,
    strict: boolean,
  ): LoadResult & { targets: Map<string, Tensor> } {
    const targets = new Map<string, Tensor>();
    const given = new Set<Tensor>();
    const missing = new Map<Tensor, string>();
    const known = new Set<string>();
    for (const { name, tensor, ownership } of this.#places()) {
      if (!ownership.persistent) continue;
      known.add(name);
      const shape = shapes[name];
      if (shape === undefined) {
        if (!given.has(tensor) && !missing.has(tensor)) missing.set(tensor, name);
        continue;
      }
      if (shape.length !== tensor.rank || shape.some((d, i) => d !== tensor.shape[i])) {
        throw new CheckpointError(
          `loadStateDict: '${name}' has shape [${shape.join(', ')}], the model's is [${tensor.shape.join(', ')}]`,
          {
            operator: 'loadStateDict',
            argument: name,
            value: `[${shape.join(', ')}]`,
            remedy: 'Load it into a model of the configuration it was saved from',
          },
        );
      }
      given.add(tensor);
      missing.delete(tensor);
      targets.set(name, tensor);
    }
    const lacking = [...missing.values()];
    const unexpected = Object.keys(shapes).filter((name) => !known.has(name));
    if (strict && (lacking.length > 0 || unexpected.length > 0)) {
      throw new CheckpointError(
        `loadStateDict: ${[
          lacking.length > 0 ? `missing ${listed(lacking)}` : '',
          unexpected.length > 0 ? `unexpected ${listed(unexpected)}` : '',
        ]
          .filter(Boolean)
          .join('; ')}`,
        {
          operator: 'loadStateDict',
          argument: 'dict',
          value: lacking[0] ?? unexpected[0] ?? '',
          remedy: 'Load it into a model of the same configuration, or pass { strict: false }',
        },
      );
    }
    return { targets, missing: lacking, unexpected };
  }

  /** Switches the whole tree to training behaviour, or away from it. */
  train(on = true): this {
    checkFlags('Module.train', { on });
    for (const module of this.modules()) module.training = on;
    return this;
  }

  /** Switches the whole tree to inference behaviour: no dropout, no statistics updated. */
  eval(): this {
    return this.train(false);
  }

  /** Freezes all parameters, or makes them trainable again. */
  requireGrad(value = true): this {
    checkFlags('Module.requireGrad', { value });
    for (const p of this.parameters()) p.requireGrad(value);
    return this;
  }

  /**
   * Converts floating parameters and buffers to a dtype, or moves all to a device. They become new
   * tensors without gradients and the old ones are disposed: make optimizers afterwards.
   */
  to(target: DType | Device | string): this {
    const isDtype = (dtypes as readonly unknown[]).includes(target);
    // Also where there is no tensor to move.
    if (!isDtype && target !== undefined) deviceOf(target as Device | string);
    if (isDtype && !isFloating(target as DType)) {
      throw new ArgumentError(
        'ERR_DTYPE',
        'Module.to',
        'target',
        show(target),
        "Use a floating dtype: 'f32', 'f16', 'bf16' or 'f64'",
      );
    }
    const moved = new Map<Tensor, Tensor>();
    noGrad(() => {
      for (const { tensor, ownership, set } of this.#places()) {
        if (isDtype && (ownership.keepDtype || !isFloating(tensor.dtype))) continue;
        const to = moved.get(tensor) ?? tensor.to(target);
        moved.set(tensor, to);
        if (to === tensor) continue;
        own(to, ownership);
        if (tensor.requiresGrad) to.requireGrad();
        set(to);
      }
    });
    for (const [from, to] of moved) {
      if (from === to) continue;
      from.grad?.dispose();
      from.dispose();
    }
    return this;
  }

  /** Forgets all gradients and frees their memory. */
  zeroGrad(): void {
    for (const p of this.parameters()) {
      p.grad?.dispose();
      p.grad = null;
    }
  }

  /** Calls `fn` on every module of the tree, children before parents. */
  apply(fn: (module: Module) => void): this {
    checkFunction('Module.apply', fn);
    for (const module of [...this.modules()].reverse()) fn(module);
    return this;
  }

  /** Releases parameters, buffers and gradients of the whole tree. */
  dispose(): void {
    for (const { tensor } of this.#places()) {
      tensor.grad?.dispose();
      tensor.grad = null;
      tensor.dispose();
    }
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What {@link toString} puts between the parentheses: sizes and options. */
  protected describe(): string {
    return '';
  }

  /** The tree of modules, one a line. */
  toString(): string {
    const lines = [...this.namedChildren()].map(
      ([name, child]) => `  ${name && `(${name}): `}${child.toString().replaceAll('\n', '\n  ')}`,
    );
    const head = `${this.constructor.name}(${this.describe()}`;
    return lines.length > 0 ? `${head}\n${lines.join('\n')}\n)` : `${head})`;
  }

  *#named(kind: Ownership['kind']): Generator<[string, Tensor]> {
    const seen = new Set<Tensor>();
    for (const { name, tensor, ownership } of this.#places()) {
      if (ownership.kind !== kind || seen.has(tensor)) continue;
      seen.add(tensor);
      yield [name, tensor];
    }
  }

  /** Every place of the tree that holds a parameter or buffer; shared ones come several times. */
  #places(): Place[] {
    const places: Place[] = [];
    this.#collect('', places, new Set());
    const names = new Set<string>();
    for (const { name } of places) {
      if (names.has(name)) {
        throw new ArgumentError(
          'ERR_VALUE',
          this.constructor.name,
          'stateNames',
          `two tensors named '${name}'`,
          'Give one of the properties another state name',
        );
      }
      names.add(name);
    }
    return places;
  }

  #collect(prefix: string, places: Place[], above: Set<Module>): void {
    if (above.has(this)) return; // a child that points back to its parent
    above.add(this);
    for (const [name, value, set] of this.#properties()) {
      if (value instanceof Module) value.#collect(join(prefix, name), places, above);
      else {
        const ownership = ownershipOf(value);
        if (ownership) places.push({ name: join(prefix, name), tensor: value, ownership, set });
      }
    }
    above.delete(this);
  }

  /** Modules and tensors among the properties, with their state names. */
  *#properties(): Generator<[string, Module | Tensor, (t: Tensor) => void]> {
    const { stateNames } = this.constructor as typeof Module;
    for (const [key, value] of Object.entries(this)) {
      const name = stateNames[key] ?? snakeCase(key);
      yield* members(name, value, (t) => {
        (this as Record<string, unknown>)[key] = t;
      });
    }
  }
}

function* members(
  name: string,
  value: unknown,
  set: (t: Tensor) => void,
): Generator<[string, Module | Tensor, (t: Tensor) => void]> {
  if (value instanceof Module || value instanceof Tensor) yield [name, value, set];
  else if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) {
      yield* members(join(name, String(i)), item, (t) => {
        value[i] = t;
      });
    }
  }
}

/** @internal Overwrites `target` with values of another tensor of its shape. */
export function write(target: Tensor, source: Tensor): void {
  if (target === source) return;
  const same = source.dtype === target.dtype;
  const values = same ? source : copy(source, target.dtype);
  assign(target, values);
  if (!same) values.dispose();
}

/** `selfAttn` to `self_attn`, `linear1` stays. */
function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}

function join(prefix: string, name: string): string {
  return prefix && name ? `${prefix}.${name}` : prefix || name;
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 5).map((n) => `'${n}'`);
  return names.length > 5 ? `${shown.join(', ')} and ${names.length - 5} more` : shown.join(', ');
}
