/**
 * Files that are written whole or not at all: the bytes go to a temporary file in the same
 * directory, are forced to disk, and take the place of the old file by one rename. A process that
 * dies at any moment leaves the old content or the new content, never a mixture.
 */

import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { show } from './declare.js';
import { ArgumentError, FileError } from './errors.js';

/** A file under construction; nobody sees it before `commit`. */
export interface AtomicFile {
  /** File descriptor of the temporary file, open for writing. */
  readonly fd: number;
  /** The path that will be replaced, symbolic links resolved. */
  readonly target: string;
  /** Forces the bytes to disk and puts the file in its place. */
  commit(): Promise<void>;
  /** As `commit`, blocking until the disk answers. */
  commitSync(): void;
  /** The typed error for a write that failed. */
  failure(error: unknown): FileError;
  /** Throws the temporary file away. Harmless after `commit`. */
  abort(): void;
}

/** Text of a system error for a message: `ENOSPC: no space left on device`. */
function reason(error: unknown): string {
  return error instanceof Error || (typeof error === 'object' && error !== null)
    ? String((error as { message?: unknown }).message)
    : String(error);
}

function writeFailure(file: string, error: unknown): FileError {
  return new FileError(`cannot write '${file}': ${reason(error)}`, {
    argument: 'path',
    value: file,
    remedy: 'Check that the directory exists, is writable and has room',
    cause: error,
  });
}

/** A rename is durable only once its directory is; not every system lets a directory be synced. */
function syncDirectory(directory: string): void {
  if (process.platform === 'win32') return;
  const fd = fs.openSync(directory, 'r');
  try {
    fs.fsyncSync(fd);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EINVAL' && code !== 'EPERM' && code !== 'ENOTSUP') throw error;
  } finally {
    fs.closeSync(fd);
  }
}

/** The file a path leads to, so that a symbolic link keeps pointing to what it points to. */
function resolveTarget(file: string): string {
  if (typeof file !== 'string') {
    const remedy = 'Pass the path of a file, as text';
    throw new ArgumentError('ERR_VALUE', 'openAtomicFile', 'file', show(file), remedy);
  }
  try {
    return fs.realpathSync(file);
  } catch {
    return path.resolve(file);
  }
}

/** Permission bits of the file that will be replaced; those of a new file otherwise. */
function modeOf(target: string): number | undefined {
  try {
    return fs.statSync(target).mode & 0o7777;
  } catch {
    return undefined;
  }
}

/**
 * Opens a temporary file that can later take the place of `file`. Writers that stream their
 * content use it; `writeFileAtomic` is the short form.
 *
 * @throws {FileError} when the directory is missing or not writable.
 * @example
 * const file = openAtomicFile('model.bin');
 * try {
 *   // ... write to file.fd, in pieces ...
 *   await file.commit();
 * } finally {
 *   file.abort(); // does nothing after a commit
 * }
 */
export function openAtomicFile(file: string): AtomicFile {
  const target = resolveTarget(file);
  const directory = path.dirname(target);
  const temporary = path.join(
    directory,
    `.${path.basename(target)}.${process.pid}-${randomBytes(6).toString('hex')}.tmp`,
  );
  let fd: number;
  try {
    fd = fs.openSync(temporary, 'wx');
    const mode = modeOf(target);
    if (mode !== undefined) fs.fchmodSync(fd, mode);
  } catch (error) {
    throw writeFailure(file, error);
  }
  let open = true;
  const close = (): void => {
    open = false;
    fs.closeSync(fd);
  };
  const abort = (): void => {
    if (!open) return;
    close();
    fs.rmSync(temporary, { force: true });
  };
  const publish = (): void => {
    close();
    fs.renameSync(temporary, target);
    syncDirectory(directory);
  };
  const fail = (error: unknown): never => {
    abort();
    fs.rmSync(temporary, { force: true });
    throw writeFailure(file, error);
  };
  return {
    fd,
    target,
    abort,
    failure: (error) => writeFailure(file, error),
    async commit() {
      try {
        await promisify(fs.fsync)(fd);
        publish();
      } catch (error) {
        fail(error);
      }
    },
    commitSync() {
      try {
        fs.fsyncSync(fd);
        publish();
      } catch (error) {
        fail(error);
      }
    },
  };
}

/** Writes all of `bytes` at `position`; a single system call may write less than it was given. */
export function writeFullySync(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.byteLength; ) {
    const length = Math.min(bytes.byteLength - done, 1 << 30);
    done += fs.writeSync(fd, bytes, done, length, position + done);
  }
}

/** As `writeFullySync`, without blocking the event loop. */
export async function writeFully(fd: number, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const length = Math.min(bytes.byteLength - done, 1 << 26);
    const start = done;
    done += await new Promise<number>((resolve, reject) => {
      fs.write(fd, bytes, start, length, position + start, (error, written) =>
        error ? reject(error) : resolve(written),
      );
    });
  }
}

/**
 * The bytes behind any view or string; strings become UTF-8.
 * @throws {ArgumentError} for anything else.
 */
export function bytesOf(operator: string, data: string | ArrayBufferView): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data, 'utf8');
  if (!ArrayBuffer.isView(data)) {
    const remedy = 'Pass text, a typed array, a DataView or a Buffer';
    throw new ArgumentError('ERR_VALUE', operator, 'data', show(data), remedy);
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * Replaces `file` by `data`, whole or not at all: a reader, or a process that is killed in the
 * middle, finds the old content or the new content.
 *
 * @param file path; a symbolic link is followed, permissions of an existing file are kept
 * @param data bytes, or text that is written as UTF-8
 * @throws {ArgumentError} for a path that is no text, or data that has no bytes.
 * @throws {FileError} when the directory is missing, not writable or full; the old file is intact.
 * @example
 * await writeFileAtomic('state.json', JSON.stringify({ step: 100 }));
 */
export async function writeFileAtomic(file: string, data: string | ArrayBufferView): Promise<void> {
  const bytes = bytesOf('writeFileAtomic', data);
  const output = openAtomicFile(file);
  try {
    await writeFully(output.fd, bytes, 0);
  } catch (error) {
    output.abort();
    throw output.failure(error);
  }
  await output.commit();
}

/**
 * As `writeFileAtomic`, blocking until the bytes are on disk.
 *
 * @example
 * writeFileAtomicSync('state.json', JSON.stringify({ step: 100 }));
 */
export function writeFileAtomicSync(file: string, data: string | ArrayBufferView): void {
  const bytes = bytesOf('writeFileAtomicSync', data);
  const output = openAtomicFile(file);
  try {
    writeFullySync(output.fd, bytes, 0);
  } catch (error) {
    output.abort();
    throw output.failure(error);
  }
  output.commitSync();
}
