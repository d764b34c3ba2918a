/** Modules in safetensors files. */
import { noGrad } from '../core/autograd/index.js';
import { show } from '../core/declare.js';
import { ArgumentError, CheckpointError } from '../core/errors.js';
import { checkFlags, checkFunction, checkInstance, checkOptions } from '../core/options.js';
import { readSafetensorsFile } from '../core/safetensors/index.js';
import { readTensor, type SaveOptions, saveTensors } from '../core/safetensors-tensors.js';
import { transpose } from '../core/views.js';
import { type LoadResult, type LoadStateOptions, Module, write } from './module.js';

/** Options of {@link loadModule}. */
export interface LoadModuleOptions extends LoadStateOptions {
  /**
   * Turns a name of the file into the module's, or into null to leave the tensor out. `transposed`
   * says that the file holds the matrix the other way round.
   */
  rename?: (name: string) => string | { name: string; transposed: boolean } | null;
}

interface Source {
  readonly name: string;
  readonly transposed: boolean;
}

/**
 * Writes the state dict of a module to a safetensors file, atomically and one tensor at a time.
 *
 * @throws FileError when the directory is not writable or the disk is full; the old file stays
 * @example
 * const model = new Linear(4, 2);
 * await saveModule('model.safetensors', model, { metadata: { step: '100' } });
 */
export async function saveModule(
  path: string,
  module: Module,
  options: SaveOptions = {},
): Promise<void> {
  checkInstance('saveModule', 'module', module, Module);
  await saveTensors(path, module.stateDict(), options);
}

/**
 * Loads a module's state from a safetensors file, one tensor at a time. Names and shapes are
 * checked before anything is written.
 *
 * @throws CheckpointError when names are missing, unexpected or renamed to one, or shapes differ
 * @throws FileError when the file is missing or not readable
 * @throws FormatError when the file is damaged
 * @example
 * await saveModule('model.safetensors', new Linear(4, 2));
 * const model = new Linear(4, 2);
 * await loadModule('model.safetensors', model);
 */
export async function loadModule(
  path: string,
  module: Module,
  options: LoadModuleOptions = {},
): Promise<LoadResult> {
  checkInstance('loadModule', 'module', module, Module);
  checkOptions('loadModule', options, ['strict', 'rename']);
  const { strict = true, rename = (name: string) => name } = options;
  checkFlags('loadModule', { strict });
  checkFunction('loadModule', rename, 'rename');
  await using file = await readSafetensorsFile(path);
  const shapes: Record<string, readonly number[]> = {};
  const sources = new Map<string, Source>();
  for (const [source, { shape }] of file.tensors) {
    const renamed = rename(source);
    if (renamed === null) continue;
    const { name, transposed } =
      typeof renamed === 'string' ? { name: renamed, transposed: false } : (renamed ?? {});
    if (typeof name !== 'string' || typeof transposed !== 'boolean') {
      const remedy = 'Return a name, { name, transposed } or null';
      const value = `a function that made ${show(renamed)} of '${source}'`;
      throw new ArgumentError('ERR_VALUE', 'loadModule', 'rename', value, remedy);
    }
    const other = sources.get(name);
    if (other !== undefined) {
      throw new CheckpointError(`loadModule: '${other.name}' and '${source}' are both '${name}'`, {
        operator: 'loadModule',
        argument: 'rename',
        value: name,
        remedy: 'Return null for the one that is to be left out',
      });
    }
    sources.set(name, { name: source, transposed });
    shapes[name] = transposed ? [...shape].reverse() : shape;
  }
  const { targets, missing, unexpected } = module.planLoad(shapes, strict);
  for (const [name, target] of targets) {
    const source = sources.get(name) as Source;
    const value = await readTensor(file, source.name, target.device);
    const oriented = source.transposed ? noGrad(() => transpose(value)) : value;
    noGrad(() => write(target, oriented));
    oriented.dispose();
    value.dispose();
  }
  return { missing, unexpected };
}
