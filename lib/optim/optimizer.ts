import { asTensor, show } from '../core/declare.js';
import type { Device } from '../core/device.js';
import { ArgumentError, CheckpointError } from '../core/errors.js';
import { checkFlags, checkObject, checkOptions } from '../core/options.js';
import { assign, copy, full } from '../core/primitives.js';
import { keep } from '../core/scope.js';
import { Tensor } from '../core/tensor.js';
import type { Schedule } from './schedules.js';

/** Parameters of one group: tensors, or [name, tensor] pairs such as `model.namedParameters()`. */
export type TrainedParameters = Iterable<Tensor | readonly [string, Tensor]>;

/** Options every optimizer has, for all groups or for one. */
export interface CommonOptions {
  /** Learning rate: a number, or a schedule of the step that is applied by `step()`. */
  lr?: number | Schedule;
  /** Keep an f32 copy of 16-bit parameters and update that. Default true. */
  masterWeights?: boolean;
}

/** A group of parameters with options of its own; the others are the optimizer's. */
export type ParameterGroup<O> = { params: TrainedParameters } & Partial<O>;

/** What one step may be given, all on the device, one element each. */
export interface StepOptions {
  /** Gradients are multiplied by it: 1 / loss scale, or a clipping coefficient. */
  gradScale?: Tensor;
  /** When not 0, the step changes nothing, not even the step count; f32 or i32. */
  skip?: Tensor;
}

/** @internal One parameter and the tensors an optimizer keeps for it, by their names in the state. */
export interface Slot {
  readonly name: string;
  readonly param: Tensor;
  readonly state: Map<string, Tensor>;
}

/** @internal A group as the optimizer holds it. */
export interface Group<O> {
  readonly options: Required<O>;
  readonly slots: readonly Slot[];
  /** f32[1], f64[1] where a parameter is f64. */
  readonly lr: Tensor;
  rate: number | Schedule;
  /** i32[1]: updates made. */
  readonly step: Tensor;
}

/**
 * Updates parameters from their gradients. The state (moments, f32 copies of 16-bit parameters) is
 * made when a parameter first has a gradient, outlives `tidy`, and is saved and restored by name, so that a
 * resumed run continues bit for bit. Learning rate and step count are tensors on the device.
 */
export abstract class Optimizer<O extends CommonOptions = CommonOptions> {
  /** @internal */
  protected readonly groups: Group<O>[] = [];
  #steps = 0;

  /** @internal */
  constructor(
    params: TrainedParameters | Iterable<ParameterGroup<O>>,
    options: O,
    defaults: Required<O>,
  ) {
    const operator = new.target.name;
    const allowed = Object.keys(defaults);
    checkOptions(operator, options, allowed);
    const seen = new Map<Tensor, string>();
    for (const { params: members, ...own } of groupsOf<O>(operator, params)) {
      checkOptions(operator, own, allowed);
      const merged = { ...defaults, ...defined(options), ...defined(own) } as Required<O>;
      checkFlags(operator, { masterWeights: merged.masterWeights });
      this.checkGroup(operator, merged);
      this.#addGroup(operator, members, merged, seen);
    }
    if (seen.size === 0) {
      throw new ArgumentError(
        'ERR_VALUE',
        operator,
        'params',
        'empty',
        'Pass the parameters to train, for example model.parameters()',
      );
    }
  }

  #addGroup(
    operator: string,
    members: TrainedParameters,
    options: Required<O>,
    seen: Map<Tensor, string>,
  ): void {
    if (typeof members?.[Symbol.iterator] !== 'function') {
      const remedy = 'Pass parameters, for example model.parameters()';
      throw new ArgumentError('ERR_VALUE', operator, 'params', show(members), remedy);
    }
    const slots: Slot[] = [];
    for (const member of members) {
      const [name, param] = Array.isArray(member)
        ? (member as readonly [string, Tensor])
        : [String(seen.size), member as Tensor];
      checkParameter(operator, name, param, seen);
      seen.set(param, name);
      slots.push({ name, param, state: new Map() });
    }
    const device = slots[0]?.param.device;
    if (!device) return;
    const rate = options.lr as number | Schedule;
    const dtype = slots.some(({ param }) => param.dtype === 'f64') ? 'f64' : 'f32';
    this.groups.push({
      options,
      slots,
      rate,
      lr: keep(full([1], checkRate(operator, rateAt(rate, 1)), { dtype, device })),
      step: keep(full([1], 0, { dtype: 'i32', device })),
    });
  }

  /** @internal Refuses options of its own that make no sense. */
  protected checkGroup(_operator: string, _options: Required<O>): void {}

  /** Calls of `step()` so far, steps that `skip` turned into nothing included. */
  get steps(): number {
    return this.#steps;
  }

  /** The parameters of all groups. */
  *parameters(): Generator<Tensor> {
    for (const group of this.groups) for (const slot of group.slots) yield slot.param;
  }

  /**
   * Learning rate of a group: that of the last step, or of the first one to come.
   *
   * @param group index of the group, default 0
   */
  learningRate(group = 0): number {
    const { rate } = this.#group(group);
    return rateAt(rate, Math.max(this.#steps, 1));
  }

  /**
   * Sets the learning rate, in place of a number or schedule given before.
   *
   * @param group index of one group; default: all
   */
  setLearningRate(rate: number | Schedule, group?: number): void {
    for (const g of group === undefined ? this.groups : [this.#group(group)]) {
      g.rate = rate;
      this.#writeRate(g, Math.max(this.#steps, 1));
    }
  }

  #group(index: number): Group<O> {
    const group = this.groups[index];
    if (!group) {
      throw new ArgumentError(
        'ERR_VALUE',
        this.constructor.name,
        'group',
        show(index),
        `Use an index from 0 to ${this.groups.length - 1}`,
      );
    }
    return group;
  }

  #writeRate(group: Group<O>, step: number): void {
    const rate = checkRate(this.constructor.name, rateAt(group.rate, step));
    group.lr.write(group.lr.dtype === 'f64' ? Float64Array.of(rate) : Float32Array.of(rate));
  }

  /** Updates every parameter that has a gradient. Enqueues the arithmetic and returns. */
  step(options: StepOptions = {}): void {
    const operator = `${this.constructor.name}.step`;
    checkOptions(operator, options, ['gradScale', 'skip']);
    for (const [name, t] of Object.entries(options))
      if (t !== undefined) asTensor(operator, name, t);
    const step = this.#steps + 1;
    for (const group of this.groups) {
      if (typeof group.rate === 'function') this.#writeRate(group, step);
      const active = group.slots.filter((slot) => slot.param.grad !== null);
      if (active.length > 0) this.update(group, active, options);
    }
    this.#steps = step;
  }

  /** @internal One update of `slots`, each of which has a gradient. */
  protected abstract update(group: Group<O>, slots: readonly Slot[], options: StepOptions): void;

  /** @internal The names of the tensors `update` keeps for a parameter of this group. */
  protected abstract stateNames(group: Group<O>): readonly string[];

  /** @internal The state `name` of each slot, zeros at first, in the precision of the arithmetic. */
  protected stateOf(slots: readonly Slot[], name: string): Tensor[] {
    return slots.map((slot) => {
      const known = slot.state.get(name);
      if (known) return known;
      const { shape, device } = slot.param;
      const made = keep(full(shape, 0, { dtype: preciseOf(slot.param), device }));
      slot.state.set(name, made);
      return made;
    });
  }

  /** @internal What is updated for each slot: f32 copies of 16-bit parameters; empty when there is none. */
  protected mastersOf(group: Group<O>, slots: readonly Slot[]): Tensor[] {
    if (!group.options.masterWeights || !slots.some(({ param }) => isNarrow(param))) return [];
    return slots.map((slot) => {
      if (!isNarrow(slot.param)) return slot.param;
      const known = slot.state.get('master');
      if (known) return known;
      const made = keep(copy(slot.param, 'f32'));
      slot.state.set('master', made);
      return made;
    });
  }

  /** Forgets the gradients of all parameters and frees their memory. */
  zeroGrad(): void {
    for (const param of this.parameters()) {
      param.grad?.dispose();
      param.grad = null;
    }
  }

  /**
   * Everything a resumed run needs beside the parameters, by name: `<parameter>.<state>`, and per
   * group `group.<i>.step` and `group.<i>.lr`, and `steps`. The tensors are the live ones (`steps` is new):
   * save or clone them before the next step.
   */
  state(): Record<string, Tensor> {
    const state: Record<string, Tensor> = {};
    this.groups.forEach((group, i) => {
      for (const slot of group.slots) {
        for (const [name, t] of slot.state) state[`${slot.name}.${name}`] = t;
      }
      state[`group.${i}.step`] = group.step;
      state[`group.${i}.lr`] = group.lr;
    });
    state.steps = full([1], this.#steps, { dtype: 'i32', device: this.#device });
    return state;
  }

  get #device(): Device {
    return (this.groups[0] as Group<O>).lr.device;
  }

  /**
   * Continues from a state: values are copied. Parameters without state start afresh, as they did when
   * it was saved.
   *
   * @throws CheckpointError when names, shapes or dtypes do not fit; then nothing was changed
   */
  loadState(state: Readonly<Record<string, Tensor>>): void {
    checkObject(`${this.constructor.name}.loadState`, 'state', state, 'what state() gives');
    const rest = new Map(Object.entries(state));
    const take = (name: string, shape: readonly number[], dtype: string): Tensor => {
      const t = rest.get(name);
      rest.delete(name);
      if (!t) throw this.#misfit(name, 'absent', 'It is not the state of this optimizer');
      asTensor(`${this.constructor.name}.loadState`, name, t);
      if (t.dtype !== dtype || t.shape.join() !== shape.join()) {
        throw this.#misfit(name, t.toString(), `It must be ${dtype}[${shape.join(', ')}]`);
      }
      return t;
    };
    const copies: (() => void)[] = [];
    this.groups.forEach((group, i) => {
      for (const target of ['step', 'lr'] as const) {
        const own = group[target];
        const from = take(`group.${i}.${target}`, own.shape, own.dtype);
        copies.push(() => assign(own, from));
      }
      for (const slot of group.slots) {
        const { shape, device } = slot.param;
        const loaded = new Map<string, Tensor>();
        for (const name of [...this.stateNames(group), 'master']) {
          const key = `${slot.name}.${name}`;
          if (!rest.has(key)) continue;
          loaded.set(name, take(key, shape, preciseOf(slot.param)));
        }
        copies.push(() => {
          for (const [name, old] of slot.state) if (!loaded.has(name)) old.dispose();
          for (const name of slot.state.keys()) if (!loaded.has(name)) slot.state.delete(name);
          for (const [name, from] of loaded) {
            const own = slot.state.get(name) ?? keep(full(shape, 0, { dtype: from.dtype, device }));
            slot.state.set(name, own);
            assign(own, from);
          }
        });
      }
    });
    const steps = take('steps', [1], 'i32');
    for (const name of rest.keys()) {
      throw this.#misfit(name, 'not a state of this optimizer', 'Load the state of the same model');
    }
    const count = steps.itemSync();
    for (const apply of copies) apply();
    this.#steps = count;
  }

  #misfit(name: string, value: string, remedy: string): CheckpointError {
    return new CheckpointError(`${this.constructor.name}.loadState: '${name}' is ${value}`, {
      operator: `${this.constructor.name}.loadState`,
      argument: name,
      value,
      remedy,
    });
  }

  /** Frees the state; the parameters stay. */
  dispose(): void {
    for (const group of this.groups) {
      for (const slot of group.slots) {
        for (const t of slot.state.values()) t.dispose();
        slot.state.clear();
      }
      group.lr.dispose();
      group.step.dispose();
    }
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @internal */
export function gradsOf(slots: readonly Slot[]): Tensor[] {
  return slots.map(({ param }) => param.grad as Tensor);
}

function isNarrow(t: Tensor): boolean {
  return t.dtype === 'f16' || t.dtype === 'bf16';
}

function preciseOf(t: Tensor): 'f32' | 'f64' {
  return t.dtype === 'f64' ? 'f64' : 'f32';
}

function rateAt(rate: number | Schedule, step: number): number {
  return typeof rate === 'function' ? rate(step) : rate;
}

function checkRate(operator: string, rate: number): number {
  if (typeof rate === 'number' && Number.isFinite(rate) && rate >= 0) return rate;
  throw new ArgumentError(
    'ERR_VALUE',
    operator,
    'lr',
    show(rate),
    'Use a finite number of 0 or more, or a schedule that gives such numbers',
  );
}

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(options).filter(([, v]) => v !== undefined),
  ) as Partial<T>;
}

/** One group of everything, or the groups given. */
function groupsOf<O>(
  operator: string,
  params: TrainedParameters | Iterable<ParameterGroup<O>>,
): ParameterGroup<O>[] {
  if (typeof (params as Iterable<unknown> | undefined)?.[Symbol.iterator] !== 'function') {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'params',
      show(params),
      'Pass an iterable of tensors, of [name, tensor] pairs, or of groups { params, ...options }',
    );
  }
  const items = [...params] as unknown[];
  const isGroup = (x: unknown) => typeof x === 'object' && x !== null && 'params' in x;
  if (items.some(isGroup)) return items as ParameterGroup<O>[];
  return [{ params: items as Iterable<Tensor> } as ParameterGroup<O>];
}

function checkParameter(
  operator: string,
  name: unknown,
  param: unknown,
  seen: ReadonlyMap<Tensor, string>,
): asserts param is Tensor {
  const refuse = (value: string, remedy: string) =>
    new ArgumentError('ERR_VALUE', operator, `params[${seen.size}]`, value, remedy);
  if (!(param instanceof Tensor) || typeof name !== 'string') {
    throw refuse(show(param), 'Pass tensors, or [name, tensor] pairs');
  }
  param.live(operator);
  if (!param.isLeaf || param.dtype === 'i32' || param.dtype === 'u8') {
    throw refuse(
      `${param.toString()}${param.isLeaf ? '' : ', the result of a recorded operator'}`,
      'Pass floating leaves: tensors with requireGrad(), or parameters of a module',
    );
  }
  if (seen.has(param)) throw refuse(`'${seen.get(param)}' again`, 'Name each parameter once');
  if ([...seen.values()].includes(name)) {
    throw refuse(`named '${name}', as another one is`, 'Give each parameter its own name');
  }
}
