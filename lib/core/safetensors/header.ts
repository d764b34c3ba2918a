/**
 * The header of a safetensors file: 8 bytes of little-endian length, a JSON object, then the data.
 * Everything a header promises is checked before a byte of data is read, so that a hostile file
 * can neither reach outside itself nor alias two tensors.
 *
 * Format: https://huggingface.co/docs/safetensors
 */

import { FormatError } from '../errors.js';
import { checkArray, checkSizes, checkText } from '../options.js';
import { byteLengthOf, isSafetensorsDtype, type SafetensorsDtype } from './dtypes.js';
import { parseStrictJson, type StrictJson, StrictJsonError } from './strict-json.js';

/** Bytes before the JSON text. */
export const PREFIX_BYTES = 8;
/** Longest header that is read; the reference implementation has the same limit. */
export const MAX_HEADER_BYTES = 100_000_000;

/** One tensor as the header describes it. */
export interface SafetensorsInfo {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Position of its first byte in the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** What a header says. */
export interface SafetensorsHeader {
  /** The strings under `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Tensors by name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
}

/** Names that would reach a prototype if a reader kept tensors in a plain object. */
const FORBIDDEN_NAMES = new Set(['__proto__', 'constructor', 'prototype']);

/** Whether a name may not be used for a tensor or a metadata key. */
export function isForbiddenName(name: string): boolean {
  return FORBIDDEN_NAMES.has(name);
}

function refuse(source: string, problem: string, value?: string, cause?: unknown): FormatError {
  return new FormatError(`${source}: ${problem}`, {
    argument: 'path',
    value: value ?? source,
    remedy: 'The file is damaged or was not written as safetensors; obtain it again',
    cause,
  });
}

const quote = (name: string): string =>
  JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);

function isMap(value: StrictJson | undefined): value is ReadonlyMap<string, StrictJson> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: StrictJson | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function showValue(value: StrictJson | undefined): string {
  if (isMap(value)) return 'an object';
  const text = value === undefined ? 'missing' : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/**
 * Length of the JSON text, from the first 8 bytes of a file.
 *
 * @param prefix the first bytes of the file, at least 8 unless the file is shorter
 * @param fileLength bytes of the whole file
 * @throws {FormatError} when the file cannot hold such a header.
 */
export function headerLength(prefix: Uint8Array, fileLength: number, source: string): number {
  if (prefix.byteLength < PREFIX_BYTES) {
    throw refuse(source, `truncated: ${prefix.byteLength} bytes, a header needs at least 8`);
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw refuse(
      source,
      `the header claims ${length} bytes, more than the limit of ${MAX_HEADER_BYTES}`,
      String(length),
    );
  }
  if (length > BigInt(fileLength - PREFIX_BYTES)) {
    throw refuse(
      source,
      `truncated: the header claims ${length} bytes, the file has ${fileLength - PREFIX_BYTES} after its prefix`,
      String(length),
    );
  }
  return Number(length);
}

function parseText(json: Uint8Array, source: string): ReadonlyMap<string, StrictJson> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
  } catch (error) {
    throw refuse(source, 'the header is not UTF-8 text', undefined, error);
  }
  let value: StrictJson;
  try {
    value = parseStrictJson(text);
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    const problem =
      error.kind === 'duplicate'
        ? `duplicate name ${quote(error.key ?? '')} in the header`
        : `the header is not JSON: ${error.message}`;
    throw refuse(source, problem, error.key, error);
  }
  if (!isMap(value)) throw refuse(source, 'the header is not a JSON object', showValue(value));
  return value;
}

function readMetadata(value: StrictJson, source: string): Map<string, string> {
  if (!isMap(value)) {
    throw refuse(source, '__metadata__ is not an object of strings', showValue(value));
  }
  const metadata = new Map<string, string>();
  for (const [key, text] of value) {
    if (isForbiddenName(key)) throw refuse(source, `forbidden metadata key ${quote(key)}`, key);
    if (typeof text !== 'string') {
      throw refuse(source, `metadata ${quote(key)} is not a string`, showValue(text));
    }
    metadata.set(key, text);
  }
  return metadata;
}

function readTensor(
  name: string,
  value: StrictJson,
  dataStart: number,
  dataLength: number,
  source: string,
): SafetensorsInfo {
  const tensor = `tensor ${quote(name)}`;
  if (isForbiddenName(name)) throw refuse(source, `forbidden tensor name ${quote(name)}`, name);
  if (!isMap(value)) throw refuse(source, `${tensor} is not an object`, showValue(value));
  for (const key of value.keys()) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets') {
      throw refuse(source, `${tensor} has an unknown field ${quote(key)}`, key);
    }
  }
  const dtype = value.get('dtype');
  if (typeof dtype !== 'string' || !isSafetensorsDtype(dtype)) {
    throw refuse(source, `${tensor} has the unknown dtype ${showValue(dtype)}`, showValue(dtype));
  }
  const shape = value.get('shape');
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw refuse(
      source,
      `${tensor} has shape ${showValue(shape)}, which must be non-negative integers`,
      showValue(shape),
    );
  }
  const offsets = value.get('data_offsets');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw refuse(
      source,
      `${tensor} has data_offsets ${showValue(offsets)}, which must be two non-negative integers`,
      showValue(offsets),
    );
  }
  const [begin, end] = offsets;
  if (begin > end || end > dataLength) {
    throw refuse(
      source,
      `${tensor} has data_offsets [${begin}, ${end}] out of range, the data has ${dataLength} bytes`,
      `[${begin}, ${end}]`,
    );
  }
  const expected = byteLengthOf(dtype, shape);
  if (expected !== end - begin) {
    throw refuse(
      source,
      `${tensor} has ${end - begin} bytes, but ${dtype} [${shape.join(', ')}] takes ${expected ?? 'no whole number of bytes below 2^53'}`,
      `${end - begin}`,
    );
  }
  return { dtype, shape, byteOffset: dataStart + begin, byteLength: end - begin };
}

/** The tensors must cover the data exactly: no byte twice, no byte unclaimed. */
function checkCoverage(
  tensors: ReadonlyMap<string, SafetensorsInfo>,
  dataStart: number,
  dataLength: number,
  source: string,
): void {
  const order = [...tensors].sort(
    ([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength,
  );
  let end = dataStart;
  let previous = 'the beginning of the data';
  for (const [name, info] of order) {
    if (info.byteOffset < end) {
      throw refuse(source, `tensors ${previous} and ${quote(name)} overlap`, name);
    }
    if (info.byteOffset > end) {
      throw refuse(
        source,
        `a hole of ${info.byteOffset - end} bytes between ${previous} and ${quote(name)}`,
        name,
      );
    }
    end = info.byteOffset + info.byteLength;
    previous = quote(name);
  }
  const rest = dataStart + dataLength - end;
  if (rest > 0) throw refuse(source, `${rest} bytes after ${previous} belong to no tensor`);
}

/**
 * Reads and checks the JSON text of a safetensors header.
 *
 * @param json the JSON text: the bytes after the 8-byte length, as many as it says
 * @param dataLength bytes of data that follow the header
 * @param source what to call the file in errors
 * @throws {ArgumentError} for what is no bytes, no length or no name.
 * @throws {FormatError} when the text is not JSON, has duplicate, forbidden or unknown names, an
 * unknown dtype, a shape that does not fit its bytes, or tensors that overlap, leave holes or lie
 * outside the data. Each has its own message.
 * @example
 * const json = new TextEncoder().encode('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}');
 * parseHeader(json, 8).tensors.get('w')?.shape; // [2]
 */
export function parseHeader(
  json: Uint8Array,
  dataLength: number,
  source = 'safetensors header',
): SafetensorsHeader {
  checkArray('parseHeader', 'json', json, 'Uint8Array');
  checkSizes('parseHeader', { dataLength }, 0);
  checkText('parseHeader', 'source', source);
  const root = parseText(json, source);
  const dataStart = PREFIX_BYTES + json.byteLength;
  let metadata = new Map<string, string>();
  const tensors = new Map<string, SafetensorsInfo>();
  for (const [name, value] of root) {
    if (name === '__metadata__') metadata = readMetadata(value, source);
    else tensors.set(name, readTensor(name, value, dataStart, dataLength, source));
  }
  checkCoverage(tensors, dataStart, dataLength, source);
  return { metadata, tensors };
}
