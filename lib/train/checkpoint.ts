/**
 * Checkpoints: one safetensors file that appears whole or not at all. Parameters stand under their
 * own names, so other programs can read the file as a model; the tensors of the optimizer stand under
 * `optimizer/`; everything else is JSON in the header, under `longspan`.
 */

import { CheckpointError } from '../core/errors.js';
import {
  checkInstance,
  checkObject,
  checkOptions,
  checkSignal,
  checkSizes,
} from '../core/options.js';
import { readSafetensorsFile } from '../core/safetensors/index.js';
import { loadTensors, saveTensors } from '../core/safetensors-tensors.js';
import type { Tensor } from '../core/tensor.js';
import { loadModule, Module } from '../nn/index.js';

/** What a model is: enough to make another one like it. */
export interface ModelDescription {
  /** Name of its class. */
  readonly type: string;
  /** Its options, fit for JSON; null for models without a configuration. */
  readonly config: unknown;
}

/** What a checkpoint says beside its tensors. */
export interface CheckpointInfo {
  readonly version: 1;
  readonly model: ModelDescription;
  /** Optimizer steps done. */
  readonly step: number;
  /** The state of the training run; absent in files that hold weights alone. */
  readonly training?: Readonly<Record<string, unknown>>;
  /** What the program that trains wants to find again: options, origin of the text. */
  readonly notes?: Readonly<Record<string, unknown>>;
}

/** What {@link saveCheckpoint} writes. */
export interface CheckpointContent {
  step: number;
  /** Tensors of the optimizer by name. */
  optimizer?: Readonly<Record<string, Tensor>>;
  training?: Readonly<Record<string, unknown>>;
  notes?: Readonly<Record<string, unknown>>;
  signal?: AbortSignal;
}

const prefix = 'optimizer/';

/** What `model` is; its `config` may be a property or a method. */
export function describeModel(model: Module): ModelDescription {
  const { config } = model as { config?: unknown };
  const value: unknown = typeof config === 'function' ? config.call(model) : config;
  return { type: model.constructor.name, config: value ?? null };
}

/**
 * Writes a checkpoint, atomically: a process that is killed at any moment leaves the old file or the
 * new one. Tensors are read from their device one at a time.
 *
 * @throws ArgumentError for what is no module, or content without a step
 * @throws FileError when the directory is missing, not writable or full; an old file stays
 * @example
 * const model = new Linear(4, 2);
 * await saveCheckpoint('step-100.safetensors', model, { step: 100 });
 */
export async function saveCheckpoint(
  path: string,
  model: Module,
  content: CheckpointContent,
): Promise<void> {
  checkInstance('saveCheckpoint', 'model', model, Module);
  checkOptions('saveCheckpoint', content, ['step', 'optimizer', 'training', 'notes', 'signal']);
  const { step, optimizer = {}, training, notes, signal } = content;
  checkSizes('saveCheckpoint', { step }, 0);
  checkObject('saveCheckpoint', 'optimizer', optimizer, 'tensors by name');
  checkSignal('saveCheckpoint', signal);
  const info: CheckpointInfo = { version: 1, model: describeModel(model), step, training, notes };
  const tensors: Record<string, Tensor> = model.stateDict();
  for (const [name, t] of Object.entries(optimizer)) tensors[prefix + name] = t;
  const metadata = { format: 'pt', longspan: JSON.stringify(info) };
  await saveTensors(path, tensors, signal ? { metadata, signal } : { metadata });
}

/**
 * What a checkpoint says about itself. Reads the header only.
 *
 * @throws FileError when the file is missing or not readable
 * @throws FormatError when it is truncated or damaged
 * @throws CheckpointError when it is a safetensors file, but not one written by longspan
 * @example
 * await saveCheckpoint('step-100.safetensors', new Linear(4, 2), { step: 100 });
 * const { model, step } = await readCheckpointInfo('step-100.safetensors');
 */
export async function readCheckpointInfo(path: string): Promise<CheckpointInfo> {
  await using file = await readSafetensorsFile(path);
  const text = file.metadata.get('longspan');
  let info: Partial<CheckpointInfo> | undefined;
  try {
    info = text === undefined ? undefined : JSON.parse(text);
  } catch {
    // Reported below, like JSON of another shape.
  }
  const known =
    typeof info === 'object' &&
    info !== null &&
    Number.isSafeInteger(info.step) &&
    typeof info.model?.type === 'string';
  if (!known) {
    throw new CheckpointError(`'${path}' is a safetensors file, but no checkpoint of longspan`, {
      operator: 'readCheckpointInfo',
      argument: 'path',
      value: path,
      remedy: 'Give a file that training wrote; loadModule() reads weights of other programs',
    });
  }
  if (info?.version !== 1) {
    throw new CheckpointError(`'${path}' has version ${info?.version} of the checkpoint format`, {
      argument: 'path',
      value: path,
      remedy: 'This version of longspan reads version 1: use the one that wrote the file',
    });
  }
  return info as CheckpointInfo;
}

/**
 * Loads the weights of a checkpoint into a model of the same configuration.
 *
 * @throws CheckpointError when the model differs, with what differs; nothing is written then
 * @throws FormatError when the file is damaged
 * @example
 * await saveCheckpoint('step-100.safetensors', new Linear(4, 2), { step: 100 });
 * const model = new Linear(4, 2);
 * const info = await loadCheckpoint('step-100.safetensors', model);
 */
export async function loadCheckpoint(path: string, model: Module): Promise<CheckpointInfo> {
  checkInstance('loadCheckpoint', 'model', model, Module);
  const info = await readCheckpointInfo(path);
  const differences = compareModels(info.model, describeModel(model));
  if (differences.length > 0) {
    throw new CheckpointError(`'${path}' is from another model: ${differences.join('; ')}`, {
      operator: 'loadCheckpoint',
      argument: 'model',
      value: differences[0],
      remedy: 'Make the model with the configuration in the checkpoint',
    });
  }
  const rename = (name: string): string | null => (name.startsWith(prefix) ? null : name);
  await loadModule(path, model, { rename });
  return info;
}

/** The tensors of the optimizer in a checkpoint, by the names they were saved under. */
export async function loadOptimizerTensors(
  path: string,
  device: Tensor['device'],
): Promise<Record<string, Tensor>> {
  const names: string[] = [];
  {
    await using file = await readSafetensorsFile(path);
    for (const name of file.tensors.keys()) if (name.startsWith(prefix)) names.push(name);
  }
  const tensors = await loadTensors(path, { names, device });
  return Object.fromEntries(
    Object.entries(tensors).map(([name, t]) => [name.slice(prefix.length), t]),
  );
}

/** How a saved model differs from this one, a phrase for each difference. */
function compareModels(saved: ModelDescription, here: ModelDescription): string[] {
  if (saved.type !== here.type) return [`it holds a ${saved.type}, this model is a ${here.type}`];
  const differences: string[] = [];
  const visit = (name: string, a: unknown, b: unknown): void => {
    const nested = isObject(a) && isObject(b);
    if (!nested) {
      const [x, y] = [JSON.stringify(a), JSON.stringify(b)];
      if (x !== y) differences.push(`${name || 'config'} is ${x} there and ${y} here`);
      return;
    }
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
      visit(name ? `${name}.${key}` : key, a[key], b[key]);
    }
  };
  visit('', saved.config, JSON.parse(JSON.stringify(here.config)));
  return differences;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
