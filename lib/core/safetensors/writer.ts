/** Writing of safetensors files: streamed, and atomic. */

import {
  type AtomicFile,
  bytesOf,
  openAtomicFile,
  writeFully,
  writeFullySync,
} from '../atomic-file.js';
import { show } from '../declare.js';
import { AbortError, ArgumentError } from '../errors.js';
import { checkObject, checkOptions, checkSignal } from '../options.js';
import {
  bitsPerElement,
  byteLengthOf,
  isSafetensorsDtype,
  type SafetensorsDtype,
} from './dtypes.js';
import { isForbiddenName, MAX_HEADER_BYTES, PREFIX_BYTES, type SafetensorsInfo } from './header.js';

/** What a tensor is, before its bytes are known. */
export interface SafetensorsSpec {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
}

/** A tensor to write: its bytes, or a function that makes them when their turn comes. */
export interface SafetensorsEntry extends SafetensorsSpec {
  readonly data: ArrayBufferView | (() => ArrayBufferView | Promise<ArrayBufferView>);
}

/** As `SafetensorsEntry`, for blocking writes. */
export interface SafetensorsSyncEntry extends SafetensorsSpec {
  readonly data: ArrayBufferView | (() => ArrayBufferView);
}

/** Strings kept in the header beside the tensors. */
export type SafetensorsMetadata = Readonly<Record<string, string>> | ReadonlyMap<string, string>;

/** Options of the functions that write files. */
export interface SafetensorsWriteOptions {
  metadata?: SafetensorsMetadata;
  /** Ends the writing between two pieces; the old file stays. */
  signal?: AbortSignal;
}

function refuse(argument: string, value: string, remedy: string): ArgumentError {
  return new ArgumentError('ERR_VALUE', 'writeSafetensorsFile', argument, value, remedy);
}

function checkSpec(spec: SafetensorsSpec, seen: ReadonlySet<string>): number {
  checkObject('writeSafetensorsFile', 'entries', spec, '{ name, dtype, shape }');
  const { name, dtype, shape } = spec;
  if (typeof name !== 'string' || name === '__metadata__' || isForbiddenName(name)) {
    throw refuse('name', show(name), 'Give the tensor another name');
  }
  if (seen.has(name)) {
    throw refuse('name', `${JSON.stringify(name)}, given twice`, 'Give every tensor its own name');
  }
  if (typeof dtype !== 'string' || !isSafetensorsDtype(dtype)) {
    throw refuse(
      'dtype',
      `${show(dtype)} for ${JSON.stringify(name)}`,
      'Use F32, BF16 or another dtype of the format',
    );
  }
  const whole = Array.isArray(shape) && shape.every((n) => Number.isSafeInteger(n) && n >= 0);
  const bytes = whole ? byteLengthOf(dtype, shape) : undefined;
  if (bytes === undefined) {
    throw refuse(
      'shape',
      `${show(shape)} for ${JSON.stringify(name)}`,
      'Use non-negative integers whose product fills whole bytes',
    );
  }
  return bytes;
}

function layOut(
  specs: readonly SafetensorsSpec[],
  metadata: SafetensorsMetadata = {},
): { header: Uint8Array; tensors: Map<string, SafetensorsInfo> } {
  if (!Array.isArray(specs)) {
    throw refuse('entries', show(specs), 'Pass a list of { name, dtype, shape }');
  }
  checkObject('writeSafetensorsFile', 'metadata', metadata, 'strings by name');
  const lengths = new Map<SafetensorsSpec, number>();
  const names = new Set<string>();
  for (const spec of specs) {
    lengths.set(spec, checkSpec(spec, names));
    names.add(spec.name);
  }
  // Widest elements first, so that every tensor starts at a multiple of its element's size.
  const order = [...specs].sort((a, b) => bitsPerElement(b.dtype) - bitsPerElement(a.dtype));
  const parts: string[] = [];
  const pairs = [...(isMap(metadata) ? metadata : Object.entries(metadata))];
  for (const [key, value] of pairs) {
    if (typeof value !== 'string' || isForbiddenName(key)) {
      throw refuse(
        'metadata',
        `${show(key)}: ${show(value)}`,
        'Metadata is strings by name; turn the value into text',
      );
    }
  }
  const quoted = JSON.stringify;
  if (pairs.length > 0) {
    parts.push(
      `"__metadata__":{${pairs.map(([key, value]) => `${quoted(key)}:${quoted(value)}`).join()}}`,
    );
  }
  const offsets = new Map<string, [number, number]>();
  let end = 0;
  for (const spec of order) {
    const begin = end;
    end += lengths.get(spec) ?? 0;
    offsets.set(spec.name, [begin, end]);
    parts.push(
      `${quoted(spec.name)}:{"dtype":"${spec.dtype}","shape":[${spec.shape.join()}],"data_offsets":[${begin},${end}]}`,
    );
  }
  const json = Buffer.from(`{${parts.join()}}`, 'utf8');
  const jsonLength = Math.ceil(json.byteLength / 8) * 8; // spaces keep the data aligned
  if (jsonLength > MAX_HEADER_BYTES) {
    throw refuse(
      'entries',
      `a header of ${jsonLength} bytes`,
      'Split the tensors over several files',
    );
  }
  const header = new Uint8Array(PREFIX_BYTES + jsonLength).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(jsonLength), true);
  header.set(json, PREFIX_BYTES);
  const tensors = new Map<string, SafetensorsInfo>();
  for (const { name, dtype, shape } of specs) {
    const [begin, stop] = offsets.get(name) ?? [0, 0];
    tensors.set(name, {
      dtype,
      shape: [...shape],
      byteOffset: header.byteLength + begin,
      byteLength: stop - begin,
    });
  }
  return { header, tensors };
}

function isMap(metadata: SafetensorsMetadata): metadata is ReadonlyMap<string, string> {
  return typeof (metadata as { entries?: unknown }).entries === 'function';
}

/**
 * A safetensors file under construction. Names, dtypes and shapes are known from the start; the
 * bytes may come in any order and in pieces. The file appears under its name at `commit`, complete
 * and on disk; a crash before that leaves what was there.
 *
 * @example
 * await using writer = new SafetensorsWriter('model.safetensors', [
 *   { name: 'w', dtype: 'F32', shape: [2, 3] },
 * ]);
 * await writer.write('w', new Float32Array(6));
 * await writer.commit();
 */
export class SafetensorsWriter {
  /** Where each tensor will lie. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  private readonly missing = new Map<string, number>();
  private readonly file: AtomicFile;

  /**
   * @param path the file to write; its directory must exist
   * @param specs every tensor of the file
   * @throws {ArgumentError} for a name, dtype or shape the format cannot hold.
   * @throws {FileError} when the directory is not writable.
   */
  constructor(path: string, specs: readonly SafetensorsSpec[], metadata?: SafetensorsMetadata) {
    const { header, tensors } = layOut(specs, metadata);
    this.tensors = tensors;
    for (const [name, { byteLength }] of tensors)
      if (byteLength) this.missing.set(name, byteLength);
    this.file = openAtomicFile(path);
    try {
      writeFullySync(this.file.fd, header, 0);
    } catch (error) {
      this.file.abort();
      throw this.file.failure(error);
    }
  }

  /**
   * Writes bytes of a tensor.
   *
   * @param data any typed array; its bytes are taken as they are (little-endian)
   * @param start position in the tensor, in bytes; 0 by default. Each byte is to be written once.
   */
  async write(name: string, data: ArrayBufferView, start = 0): Promise<void> {
    const bytes = bytesOf('SafetensorsWriter.write', data);
    const position = this.place(name, bytes, start);
    try {
      await writeFully(this.file.fd, bytes, position);
    } catch (error) {
      throw this.file.failure(error);
    }
    this.count(name, bytes.byteLength);
  }

  /** As `write`, blocking the event loop. */
  writeSync(name: string, data: ArrayBufferView, start = 0): void {
    const bytes = bytesOf('SafetensorsWriter.writeSync', data);
    const position = this.place(name, bytes, start);
    try {
      writeFullySync(this.file.fd, bytes, position);
    } catch (error) {
      throw this.file.failure(error);
    }
    this.count(name, bytes.byteLength);
  }

  /**
   * Forces the file to disk and puts it in its place.
   *
   * @throws {ArgumentError} when bytes of a tensor were never written; the old file stays.
   */
  async commit(): Promise<void> {
    this.checkComplete();
    await this.file.commit();
  }

  /** As `commit`, blocking the event loop. */
  commitSync(): void {
    this.checkComplete();
    this.file.commitSync();
  }

  /** Gives the file up; what was there before stays. Harmless after `commit`. */
  abort(): void {
    this.file.abort();
  }

  [Symbol.dispose](): void {
    this.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort();
  }

  private place(name: string, data: Uint8Array, start: number): number {
    const info = this.tensors.get(name);
    if (!info) throw refuse('name', show(name), 'Name it when the writer is made');
    if (!Number.isSafeInteger(start) || start < 0 || start + data.byteLength > info.byteLength) {
      throw refuse(
        'data',
        `${data.byteLength} bytes at byte ${show(start)} of ${JSON.stringify(name)}`,
        `${info.dtype} [${info.shape.join(', ')}] takes ${info.byteLength} bytes`,
      );
    }
    return info.byteOffset + start;
  }

  private count(name: string, written: number): void {
    const rest = (this.missing.get(name) ?? 0) - written;
    if (rest > 0) this.missing.set(name, rest);
    else this.missing.delete(name);
  }

  private checkComplete(): void {
    for (const [name, bytes] of this.missing) {
      throw refuse(
        'data',
        `${bytes} bytes short for ${JSON.stringify(name)}`,
        'Write every tensor before commit',
      );
    }
  }
}

function checkData(name: string, data: unknown): ArrayBufferView {
  if (ArrayBuffer.isView(data)) return data;
  throw refuse(
    'data',
    `${typeof data} for ${JSON.stringify(name)}`,
    'Give a typed array, or a function that returns one',
  );
}

function listOf<T>(entries: Iterable<T>): T[] {
  const iterable = typeof entries !== 'string' && entries?.[Symbol.iterator];
  if (iterable) return [...entries];
  throw refuse('entries', show(entries), 'Pass a list of { name, dtype, shape, data }');
}

/** A tensor must come whole in these functions; a shorter array is a mistake, not a piece. */
function checkWhole(writer: SafetensorsWriter, name: string, data: ArrayBufferView): void {
  const info = writer.tensors.get(name);
  if (!info || data.byteLength === info.byteLength) return;
  throw refuse(
    'data',
    `${data.byteLength} bytes for ${JSON.stringify(name)}`,
    `${info.dtype} [${info.shape.join(', ')}] takes ${info.byteLength} bytes`,
  );
}

/**
 * Writes a safetensors file, atomically: the file appears complete and on disk, or not at all.
 * Entries that give a function are asked for their bytes one after the other, so a model larger
 * than memory can be written.
 *
 * @param path the file to write; an existing file is replaced at the end
 * @throws {ArgumentError} for a name, dtype, shape or data length the format cannot hold.
 * @throws {FileError} when the directory is not writable or the disk is full; the old file stays.
 * @throws {AbortError} when `signal` fires; the old file stays.
 * @example
 * await writeSafetensorsFile(
 *   'model.safetensors',
 *   [{ name: 'w', dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) }],
 *   { metadata: { format: 'pt' } },
 * );
 */
export async function writeSafetensorsFile(
  path: string,
  entries: Iterable<SafetensorsEntry>,
  options: SafetensorsWriteOptions = {},
): Promise<void> {
  checkOptions('writeSafetensorsFile', options, ['metadata', 'signal']);
  checkSignal('writeSafetensorsFile', options.signal);
  const list = listOf(entries);
  using writer = new SafetensorsWriter(path, list, options.metadata);
  for (const { name, data: source } of list) {
    if (options.signal?.aborted) {
      throw new AbortError(`writing '${path}' was aborted`, { cause: options.signal.reason });
    }
    const data = checkData(name, typeof source === 'function' ? await source() : source);
    checkWhole(writer, name, data);
    await writer.write(name, data);
  }
  await writer.commit();
}

/**
 * As `writeSafetensorsFile`, blocking the event loop; functions must return their bytes at once.
 *
 * @example
 * writeSafetensorsFileSync('model.safetensors', [
 *   { name: 'w', dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) },
 * ]);
 */
export function writeSafetensorsFileSync(
  path: string,
  entries: Iterable<SafetensorsSyncEntry>,
  options: Omit<SafetensorsWriteOptions, 'signal'> = {},
): void {
  checkOptions('writeSafetensorsFileSync', options, ['metadata']);
  const list = listOf(entries);
  using writer = new SafetensorsWriter(path, list, options.metadata);
  for (const { name, data: source } of list) {
    const data = checkData(name, typeof source === 'function' ? source() : source);
    checkWhole(writer, name, data);
    writer.writeSync(name, data);
  }
  writer.commitSync();
}
