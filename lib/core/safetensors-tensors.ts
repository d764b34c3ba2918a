/** Tensors in safetensors files, one at a time in memory, written whole or not at all. */
import { fromBytes } from './create.js';
import { show } from './declare.js';
import type { DType } from './dtype.js';
import { ArgumentError, FormatError } from './errors.js';
import { checkList, checkObject, checkOptions, checkText } from './options.js';
import type { TensorOptions } from './primitives.js';
import {
  readSafetensorsFile,
  type SafetensorsDtype,
  type SafetensorsFile,
  type SafetensorsMetadata,
  writeSafetensorsFile,
} from './safetensors/index.js';
import { Tensor } from './tensor.js';

const toFile: Readonly<Record<DType, SafetensorsDtype>> = {
  f32: 'F32',
  f16: 'F16',
  bf16: 'BF16',
  f64: 'F64',
  i32: 'I32',
  u8: 'U8',
};

/** What tensors of the file become; 64-bit integers must fit 32 bits. */
const fromFile: Partial<Readonly<Record<SafetensorsDtype, DType>>> = {
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
  F64: 'f64',
  I32: 'i32',
  U8: 'u8',
  I64: 'i32',
  BOOL: 'u8',
};

/** Options of {@link saveTensors}. */
export interface SaveOptions {
  /** Strings kept in the header. */
  metadata?: SafetensorsMetadata;
  /** Ends the writing between two tensors; the old file stays. */
  signal?: AbortSignal;
}

/** Options of {@link loadTensors}. */
export interface LoadTensorsOptions {
  /** Where the tensors are made. Default `cpu`. */
  device?: TensorOptions['device'];
  /** Which tensors to read. Default all. */
  names?: readonly string[];
}

/**
 * Writes tensors to a safetensors file. Each is read from its device when its turn comes, so no
 * second copy of the whole exists; do not write to them before the promise settles.
 *
 * @param tensors by name, of any dtype and strides
 * @throws ArgumentError for a name the format cannot hold, or a value that is no tensor
 * @throws DisposedError for a tensor that was disposed; the old file stays
 * @throws FileError when the directory is not writable or the disk is full; the old file stays
 * @example
 * import { tmpdir } from 'node:os';
 * await saveTensors(`${tmpdir()}/weights.safetensors`, { w: ones([2, 3]) });
 */
export async function saveTensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>>,
  options: SaveOptions = {},
): Promise<void> {
  checkObject('saveTensors', 'tensors', tensors, 'tensors by name');
  const entries = Object.entries(tensors).map(([name, t]) => {
    if (!(t instanceof Tensor)) {
      throw new ArgumentError('ERR_VALUE', 'saveTensors', name, show(t), 'Pass tensors by name');
    }
    t.live('saveTensors');
    return { name, dtype: toFile[t.dtype], shape: t.shape, data: () => t.data() };
  });
  await writeSafetensorsFile(path, entries, options);
}

/**
 * Reads tensors from a safetensors file, one at a time. `I64` becomes i32, `BOOL` becomes u8.
 *
 * @returns tensors by name, in the order of the file
 * @throws FileError when the file is missing or not readable
 * @throws FormatError when the file is damaged, holds a dtype that no tensor has, or an `I64`
 *   beyond 32 bits
 * @throws ArgumentError when one of `names` is not in the file, or an option is none
 * @example
 * import { tmpdir } from 'node:os';
 * const path = `${tmpdir()}/two.safetensors`;
 * await saveTensors(path, { w: ones([2, 3]), b: zeros([3]) });
 * const { w } = await loadTensors(path, { names: ['w'] });
 */
export async function loadTensors(
  path: string,
  options: LoadTensorsOptions = {},
): Promise<Record<string, Tensor>> {
  checkOptions('loadTensors', options, ['names', 'device']);
  const { names } = options;
  if (names !== undefined) checkList('loadTensors', 'names', names, 'names in the file');
  await using file = await readSafetensorsFile(path);
  const tensors: Record<string, Tensor> = {};
  try {
    for (const name of names ?? file.tensors.keys()) {
      checkText('loadTensors', 'names', name);
      tensors[name] = await readTensor(file, name, options.device);
    }
  } catch (error) {
    for (const t of Object.values(tensors)) t.dispose();
    throw error;
  }
  return tensors;
}

/** @internal Reads one tensor of an open file. */
export async function readTensor(
  file: SafetensorsFile,
  name: string,
  device?: TensorOptions['device'],
): Promise<Tensor> {
  const info = file.tensors.get(name);
  const dtype = info && fromFile[info.dtype];
  if (info && !dtype) {
    throw new FormatError(`'${file.path}': '${name}' is ${info.dtype}, which no tensor can hold`, {
      operator: 'loadTensors',
      argument: name,
      value: info.dtype,
      remedy: `Convert it to one of ${Object.keys(fromFile).join(', ')}`,
    });
  }
  const bytes = await file.read(name);
  if (!info || !dtype) throw new Error('unreachable: the file read a tensor it does not have');
  const data = info.dtype === 'I64' ? narrow(file, name, bytes) : bytes;
  return fromBytes(data, info.shape, dtype, device);
}

function narrow(file: SafetensorsFile, name: string, bytes: Uint8Array): Int32Array {
  const wide = new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
  return Int32Array.from(wide, (value) => {
    if (value === BigInt.asIntN(32, value)) return Number(value);
    throw new FormatError(`'${file.path}': '${name}' holds ${value}, beyond 32 bits`, {
      operator: 'loadTensors',
      argument: name,
      value: String(value),
      remedy: 'Indices are 32-bit integers here',
    });
  });
}
