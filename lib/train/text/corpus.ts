/** Real text from files: found, checked, and in an order that is the same on every machine. */

import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { show } from '../../core/declare.js';
import { AbortError, ArgumentError, FileError, FormatError } from '../../core/errors.js';
import {
  checkArray,
  checkList,
  checkObject,
  checkOptions,
  checkSignal,
  checkText,
} from '../../core/options.js';
import { hashText } from '../../core/random.js';

/** One text file. */
export interface TextFile {
  /** Path relative to the directory it was found in, with `/`; the base name for a file given. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Files that were found in a directory and left out. */
export interface SkippedFile {
  readonly name: string;
  /** `run`: what a training run wrote, see {@link loadCorpus}. */
  readonly reason: 'empty' | 'binary' | 'duplicate' | 'limit' | 'run';
}

/** Text files, ordered by name. */
export interface Corpus {
  readonly files: readonly TextFile[];
  readonly totalBytes: number;
  readonly skipped: readonly SkippedFile[];
}

/** Options of `loadCorpus`. */
export interface LoadCorpusOptions {
  /** Ends of the file names taken from directories, `['.md', '.d.ts']`; all files by default. */
  extensions?: readonly string[];
  /** Stop before the files of directories exceed this many bytes; which are left out is by hash. */
  maxBytes?: number;
  /** Seed of the choice that `maxBytes` makes; 0 by default. */
  seed?: number;
  signal?: AbortSignal;
}

interface Found {
  readonly name: string;
  readonly path: string;
  /** Given by name: then a file that cannot be used is an error, not one to skip. */
  readonly explicit: boolean;
  /** Lies in the directory of a training run. */
  readonly ofRun: boolean;
}

/** What marks the directory of a run: its curve and notes are text, and would train the next run. */
const weights = /^(?:step-\d+|best|model)\.safetensors$/;

const compareNames = (a: { name: string }, b: { name: string }): number =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : 0;

function unreadable(file: string, error: unknown): FileError {
  const { code, message } = error as NodeJS.ErrnoException;
  return new FileError(
    code === 'ENOENT' ? `text file '${file}' does not exist` : `cannot read '${file}': ${message}`,
    {
      argument: 'paths',
      value: file,
      remedy: 'Give the path of a readable text file or directory',
      cause: error,
    },
  );
}

function checkPaths(paths: unknown): string[] {
  const list: unknown[] = Array.isArray(paths) ? paths : [paths];
  for (const item of list) {
    if (typeof item !== 'string' || item === '' || item.includes('\0')) {
      throw new ArgumentError(
        'ERR_VALUE',
        'loadCorpus',
        'paths',
        typeof item === 'string' ? JSON.stringify(item) : show(item),
        'Give paths of text files or directories as strings',
      );
    }
  }
  if (list.length > 0) return list as string[];
  throw new ArgumentError(
    'ERR_VALUE',
    'loadCorpus',
    'paths',
    'an empty list',
    'Give at least one text file or directory',
  );
}

/** Files below a directory. Symbolic links are not followed, so there are no cycles. */
async function walk(
  directory: string,
  extensions: readonly string[] | undefined,
  signal: AbortSignal | undefined,
): Promise<Found[]> {
  const found: Found[] = [];
  const visit = async (at: string, prefix: string): Promise<void> => {
    if (signal?.aborted) throw new AbortError('loading text was aborted', { cause: signal.reason });
    const entries = await fs.readdir(at, { withFileTypes: true }).catch((error: unknown) => {
      throw unreadable(at, error);
    });
    const ofRun = prefix !== '' && entries.some((entry) => weights.test(entry.name));
    for (const entry of entries) {
      const name = prefix + entry.name;
      const full = path.join(at, entry.name);
      if (entry.isDirectory()) await visit(full, `${name}/`);
      else if (entry.isFile() && (extensions?.some((end) => name.endsWith(end)) ?? true)) {
        found.push({ name, path: full, explicit: false, ofRun });
      }
    }
  };
  await visit(directory, '');
  return found;
}

async function find(paths: readonly string[], options: LoadCorpusOptions): Promise<Found[]> {
  const found: Found[] = [];
  for (const item of paths) {
    const stat = await fs.stat(item).catch((error: unknown) => {
      throw unreadable(item, error);
    });
    if (stat.isDirectory()) {
      const files = await walk(item, options.extensions, options.signal);
      if (files.length === 0) {
        throw new FileError(`no file in '${item}' ends in ${options.extensions ?? 'anything'}`, {
          argument: 'extensions',
          value: String(options.extensions),
          remedy: 'Give another directory or other extensions',
        });
      }
      found.push(...files);
    } else if (!stat.isFile()) {
      throw new FileError(`text file '${item}' is no regular file`, {
        argument: 'paths',
        value: item,
        remedy: 'Write it to a file first: a run reads its text again when it is resumed',
      });
    } else {
      found.push({ name: path.basename(item), path: item, explicit: true, ofRun: false });
    }
  }
  return found;
}

/**
 * Refuses what are no text files.
 * @throws {ArgumentError} that names the argument.
 */
export function checkFiles(operator: string, files: unknown): void {
  checkList(operator, 'files', files, '{ name, bytes }');
  (files as readonly TextFile[]).forEach((file, i) => {
    checkObject(operator, `files[${i}]`, file, '{ name, bytes }');
    checkText(operator, `files[${i}].name`, file.name);
    checkArray(operator, `files[${i}].bytes`, file.bytes, 'Uint8Array');
  });
}

/** Why bytes are not usable as text; a NUL never occurs in text of any common encoding but UTF-16. */
function fault(bytes: Uint8Array): 'empty' | 'binary' | undefined {
  if (bytes.byteLength === 0) return 'empty';
  return bytes.includes(0) ? 'binary' : undefined;
}

const explain = {
  empty: ['is empty', 'Give a file with text in it'],
  binary: ['is not text: it contains NUL bytes', 'Give UTF-8 text; convert UTF-16 first'],
} as const;

/**
 * Loads text files. Directories are searched to the bottom, without following links. Of files with
 * equal content one is kept, so that none can stand on both sides of a split.
 *
 * A file given by name must be usable. A file found in a directory that is empty or binary is left
 * out and listed in `skipped`; so is what lies in the directory of a training run (one that holds
 * `step-N`, `best` or `model.safetensors`) below it, lest a run train on what earlier ones wrote.
 *
 * @param paths files and directories
 * @returns the files ordered by name (by code unit), the same on every machine
 * @throws {ArgumentError} when a path is not a path, or an option is out of range.
 * @throws {FileError} when something is missing, unreadable, or nothing usable is left.
 * @throws {FormatError} when a file given by name is empty or binary.
 * @throws {AbortError} when `signal` fires.
 * @example
 * await writeFileAtomic('notes.md', '# Notes');
 * const corpus = await loadCorpus('.', { extensions: ['.md'] });
 * console.log(corpus.files.length, corpus.totalBytes);
 */
export async function loadCorpus(
  paths: string | readonly string[],
  options: LoadCorpusOptions = {},
): Promise<Corpus> {
  const list = checkPaths(paths);
  checkOptions('loadCorpus', options, ['extensions', 'maxBytes', 'seed', 'signal']);
  const { maxBytes = Number.POSITIVE_INFINITY, seed = 0, signal, extensions } = options;
  checkSignal('loadCorpus', signal);
  if (extensions !== undefined) {
    checkList('loadCorpus', 'extensions', extensions, "ends of names, ['.md'], say");
    for (const end of extensions) checkText('loadCorpus', 'extensions', end);
  }
  if (typeof maxBytes !== 'number' || !(maxBytes > 0)) {
    throw new ArgumentError(
      'ERR_OPTION',
      'loadCorpus',
      'maxBytes',
      show(maxBytes),
      'Give a positive number of bytes, or leave it out',
    );
  }
  const found = (await find(list, options)).sort(compareNames);
  if (maxBytes < Number.POSITIVE_INFINITY) {
    const order = new Map(found.map((file) => [file, hashText(file.name, seed)]));
    found.sort((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0));
  }
  const files: TextFile[] = [];
  const skipped: SkippedFile[] = [];
  const contents = new Set<string>();
  let totalBytes = 0;
  for (const { name, path: file, explicit, ofRun } of found) {
    if (signal?.aborted) throw new AbortError('loading text was aborted', { cause: signal.reason });
    if (ofRun) {
      skipped.push({ name, reason: 'run' });
      continue;
    }
    if (!explicit && totalBytes >= maxBytes) {
      skipped.push({ name, reason: 'limit' });
      continue;
    }
    const bytes = await fs.readFile(file).catch((error: unknown) => {
      throw unreadable(file, error);
    });
    const problem = fault(bytes);
    if (problem && explicit) {
      const [what, remedy] = explain[problem];
      throw new FormatError(`text file '${file}' ${what}`, {
        argument: 'paths',
        value: file,
        remedy,
      });
    }
    const content = createHash('sha256').update(bytes).digest('base64');
    const reason =
      problem ??
      (contents.has(content)
        ? 'duplicate'
        : !explicit && totalBytes + bytes.byteLength > maxBytes
          ? 'limit'
          : undefined);
    if (reason) {
      skipped.push({ name, reason });
      continue;
    }
    contents.add(content);
    totalBytes += bytes.byteLength;
    files.push({ name, bytes: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) });
  }
  if (files.length === 0) {
    throw new FileError(`no usable text in ${list.map((item) => `'${item}'`).join(', ')}`, {
      argument: 'paths',
      value: list.join(', '),
      remedy: `All ${skipped.length} files were empty, binary, of a training run, or above maxBytes; give other ones`,
    });
  }
  return { files: files.sort(compareNames), totalBytes, skipped: skipped.sort(compareNames) };
}

/**
 * The bytes of all files, one after the other.
 *
 * @example
 * const files = [
 *   { name: 'a', bytes: Buffer.from('to be') },
 *   { name: 'b', bytes: Buffer.from(' or not') },
 * ];
 * concatenate(files).length; // 12
 */
export function concatenate(files: readonly TextFile[]): Uint8Array {
  checkFiles('concatenate', files);
  const all = new Uint8Array(files.reduce((sum, { bytes }) => sum + bytes.byteLength, 0));
  let at = 0;
  for (const { bytes } of files) {
    all.set(bytes, at);
    at += bytes.byteLength;
  }
  return all;
}
