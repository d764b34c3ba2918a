/** Lazy reading of safetensors files by position: only the header is held in memory. */

import * as fs from 'node:fs';
import { show } from '../declare.js';
import { ArgumentError, FileError, FormatError } from '../errors.js';
import {
  headerLength,
  PREFIX_BYTES,
  parseHeader,
  type SafetensorsHeader,
  type SafetensorsInfo,
} from './header.js';

/** Longest single read; keeps one request from blocking a pool thread for long. */
const CHUNK_BYTES = 1 << 26;

function readFailure(path: string, error: unknown): FileError {
  const { code, message } = error as NodeJS.ErrnoException;
  const missing = code === 'ENOENT';
  return new FileError(
    missing ? `safetensors file '${path}' does not exist` : `cannot read '${path}': ${message}`,
    {
      argument: 'path',
      value: path,
      remedy: missing ? 'Check the path' : 'Check that it is a readable file',
      cause: error,
    },
  );
}

/**
 * An open safetensors file. Tensors are read when asked for, by position, so files may be larger
 * than memory. Close it when done; `using` and `await using` do so by themselves.
 */
export class SafetensorsFile {
  /** The strings of the header's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Tensors by name: dtype, shape and place in the file. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  private pending = 0;
  private closed = false;
  private whenIdle: (() => void) | undefined;

  /** @internal Use `readSafetensorsFile`. */
  constructor(
    /** The path it was opened with. */
    readonly path: string,
    private readonly fd: number,
    header: SafetensorsHeader,
  ) {
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  /**
   * Reads a whole tensor into new memory, aligned for any typed array.
   *
   * @throws {ArgumentError} when the file has no such tensor or is closed.
   * @throws {FormatError} when the file has become shorter since it was opened.
   * @example
   * await saveTensors('model.safetensors', { weight: ones([2, 3]) });
   * await using file = await readSafetensorsFile('model.safetensors');
   * const bytes = await file.read('weight');
   * const weight = new Float32Array(bytes.buffer);
   */
  async read(name: string): Promise<Uint8Array> {
    const info = this.info('read', name);
    const bytes = this.allocate(name, info);
    await this.fill(name, bytes, info.byteOffset);
    return bytes;
  }

  /** As `read`, blocking the event loop until the disk answers. */
  readSync(name: string): Uint8Array {
    const info = this.info('readSync', name);
    const bytes = this.allocate(name, info);
    this.fillSync(name, bytes, info.byteOffset);
    return bytes;
  }

  /**
   * Fills `target` with bytes of a tensor, for tensors that are to be read in pieces or into
   * memory that exists already.
   *
   * @param target any typed array; all of its bytes are written
   * @param start first byte of the tensor to read, 0 by default
   * @throws {ArgumentError} when the piece reaches beyond the tensor.
   */
  async readInto(name: string, target: ArrayBufferView, start = 0): Promise<void> {
    const { bytes, position } = this.piece('readInto', name, target, start);
    await this.fill(name, bytes, position);
  }

  /** As `readInto`, blocking the event loop until the disk answers. */
  readIntoSync(name: string, target: ArrayBufferView, start = 0): void {
    const { bytes, position } = this.piece('readIntoSync', name, target, start);
    this.fillSync(name, bytes, position);
  }

  /** Closes the file once reads under way have ended. Idempotent. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    if (this.pending > 0) await new Promise<void>((resolve) => (this.whenIdle = resolve));
    fs.closeSync(this.fd);
  }

  /** Closes the file at once. Idempotent. Throws while an asynchronous read is under way. */
  closeSync(): void {
    if (this.closed) return;
    if (this.pending > 0) {
      throw new ArgumentError(
        'ERR_VALUE',
        'SafetensorsFile.closeSync',
        'this',
        `a file with ${this.pending} reads under way`,
        'Await them, or call close(), which waits',
      );
    }
    this.closed = true;
    fs.closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.closeSync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private info(method: string, name: string): SafetensorsInfo {
    const operator = `SafetensorsFile.${method}`;
    if (this.closed) {
      throw new ArgumentError(
        'ERR_VALUE',
        operator,
        'this',
        `the closed file '${this.path}'`,
        'Read before calling close()',
      );
    }
    const info = this.tensors.get(name);
    if (info) return info;
    const names = [...this.tensors.keys()];
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'name',
      show(name),
      names.length === 0
        ? `'${this.path}' holds no tensors`
        : `'${this.path}' holds ${names.slice(0, 8).join(', ')}${names.length > 8 ? ` and ${names.length - 8} more` : ''}`,
    );
  }

  private piece(
    method: string,
    name: string,
    target: ArrayBufferView,
    start: number,
  ): { bytes: Uint8Array; position: number } {
    const info = this.info(method, name);
    const operator = `SafetensorsFile.${method}`;
    if (!ArrayBuffer.isView(target)) {
      throw new ArgumentError(
        'ERR_VALUE',
        operator,
        'target',
        show(target),
        'Give a typed array, a DataView or a Buffer',
      );
    }
    if (!Number.isSafeInteger(start) || start < 0 || start + target.byteLength > info.byteLength) {
      throw new ArgumentError(
        'ERR_VALUE',
        operator,
        'start',
        `${show(start)} for ${target.byteLength} bytes of a tensor of ${info.byteLength} bytes`,
        'Keep start plus the length of target within the tensor',
      );
    }
    return {
      bytes: new Uint8Array(target.buffer, target.byteOffset, target.byteLength),
      position: info.byteOffset + start,
    };
  }

  private allocate(name: string, info: SafetensorsInfo): Uint8Array {
    try {
      return new Uint8Array(info.byteLength);
    } catch (error) {
      throw new ArgumentError(
        'ERR_VALUE',
        'SafetensorsFile.read',
        'name',
        `${JSON.stringify(name)}, a tensor of ${info.byteLength} bytes`,
        'There is no memory for it at once; read it in pieces with readInto',
        error,
      );
    }
  }

  private shortRead(name: string, missing: number): FormatError {
    return new FormatError(
      `'${this.path}' ended ${missing} bytes before the end of tensor ${JSON.stringify(name)}`,
      {
        argument: 'path',
        value: this.path,
        remedy: 'The file has been changed while it was open; open it again',
      },
    );
  }

  private async fill(name: string, bytes: Uint8Array, position: number): Promise<void> {
    this.pending++;
    try {
      for (let done = 0; done < bytes.byteLength; ) {
        const start = done;
        const length = Math.min(bytes.byteLength - start, CHUNK_BYTES);
        const count = await new Promise<number>((resolve, reject) => {
          fs.read(this.fd, bytes, start, length, position + start, (error, read) =>
            error ? reject(readFailure(this.path, error)) : resolve(read),
          );
        });
        if (count === 0) throw this.shortRead(name, bytes.byteLength - done);
        done += count;
      }
    } finally {
      this.pending--;
      if (this.pending === 0) this.whenIdle?.();
    }
  }

  private fillSync(name: string, bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.byteLength; ) {
      const length = Math.min(bytes.byteLength - done, CHUNK_BYTES);
      let count: number;
      try {
        count = fs.readSync(this.fd, bytes, done, length, position + done);
      } catch (error) {
        throw readFailure(this.path, error);
      }
      if (count === 0) throw this.shortRead(name, bytes.byteLength - done);
      done += count;
    }
  }
}

/** Reads up to `length` bytes; fewer where the file ends. */
function readUpTo(fd: number, length: number, position: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const count = fs.readSync(fd, bytes, done, length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return bytes.subarray(0, done);
}

function checkPath(operator: string, path: string): void {
  if (typeof path === 'string' && path.length > 0 && !path.includes('\0')) return;
  throw new ArgumentError(
    'ERR_VALUE',
    operator,
    'path',
    typeof path === 'string' ? JSON.stringify(path) : show(path),
    'Give the path of a safetensors file as a string',
  );
}

/**
 * Opens a safetensors file and checks its header, blocking; tensors are read later.
 *
 * @throws {FileError} when the file is missing or not readable.
 * @throws {FormatError} when the header is damaged or hostile; see `parseHeader`.
 * @example
 * await saveTensors('model.safetensors', { weight: ones([2, 3]) });
 * using file = readSafetensorsFileSync('model.safetensors');
 * const bytes = file.readSync('weight');
 */
export function readSafetensorsFileSync(path: string): SafetensorsFile {
  checkPath('readSafetensorsFileSync', path);
  let fd: number;
  try {
    fd = fs.openSync(path, 'r');
  } catch (error) {
    throw readFailure(path, error);
  }
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw readFailure(path, new Error('it is not a regular file'));
    const length = headerLength(readUpTo(fd, PREFIX_BYTES, 0), stat.size, path);
    const json = readUpTo(fd, length, PREFIX_BYTES);
    return new SafetensorsFile(
      path,
      fd,
      parseHeader(json, stat.size - PREFIX_BYTES - length, path),
    );
  } catch (error) {
    fs.closeSync(fd);
    throw (error as NodeJS.ErrnoException).syscall ? readFailure(path, error) : error;
  }
}

/**
 * Opens a safetensors file and checks its header. The header is small and read at once; every
 * tensor is read when it is asked for, without blocking the event loop.
 *
 * @throws {FileError} when the file is missing or not readable.
 * @throws {FormatError} when the header is damaged or hostile; see `parseHeader`.
 * @example
 * await saveTensors('model.safetensors', { weight: ones([2, 3]) });
 * await using file = await readSafetensorsFile('model.safetensors');
 * for (const [name, { dtype, shape }] of file.tensors) console.log(name, dtype, shape);
 */
export async function readSafetensorsFile(path: string): Promise<SafetensorsFile> {
  checkPath('readSafetensorsFile', path);
  return readSafetensorsFileSync(path);
}
