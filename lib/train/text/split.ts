/** Division of a corpus into training and validation text. */

import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import { checkFunction, checkOptions } from '../../core/options.js';
import { hashText } from '../../core/random.js';
import { checkFiles, type TextFile } from './corpus.js';

/** Options of `splitCorpus`. */
export interface SplitOptions {
  /** Share of the bytes that validates; 0.1 by default. */
  validation?: number;
  /** Seed of the choice; 0 by default. */
  seed?: number;
  /**
   * Files of one group stay on one side. By default the group is the name without its last
   * extension (and `.d` before it), so that variants of one file do not stand on both sides.
   */
  group?: (name: string) => string;
}

/** The two sides; each keeps the order of the corpus. */
export interface CorpusSplit {
  readonly train: readonly TextFile[];
  readonly validation: readonly TextFile[];
}

const stem = (name: string): string => name.replace(/(\.d)?\.[^./]+$/, '');

/** One file only: its end validates, cut after a line where there is one nearby. */
function splitFile(file: TextFile, share: number): CorpusSplit {
  const { name, bytes } = file;
  let cut = Math.min(bytes.length - 1, Math.max(1, Math.round(bytes.length * (1 - share))));
  const line = bytes.indexOf(10, cut - 1);
  if (line >= 0 && line + 1 < bytes.length && line - cut < 0.01 * bytes.length) cut = line + 1;
  return {
    train: [{ name, bytes: bytes.subarray(0, cut) }],
    validation: [{ name, bytes: bytes.subarray(cut) }],
  };
}

/**
 * Divides files into training and validation, whole file by whole file: groups of files go to
 * validation in the order of a seeded hash of their names, as long as that brings its bytes closer
 * to the share wanted. Both sides always have text. A corpus of one group is cut instead: the end
 * of its last file validates.
 *
 * @throws {ArgumentError} when the share is not between 0 and 1, or there is no text to divide.
 * @example
 * const files = ['a.txt', 'b.txt', 'c.txt'].map((name) => ({ name, bytes: Buffer.from(name) }));
 * const { train, validation } = splitCorpus(files, { validation: 0.3, seed: 1 });
 */
export function splitCorpus(files: readonly TextFile[], options: SplitOptions = {}): CorpusSplit {
  checkOptions('splitCorpus', options, ['validation', 'seed', 'group']);
  const { validation: share = 0.1, seed = 0, group = stem } = options;
  checkFiles('splitCorpus', files);
  checkFunction('splitCorpus', group, 'group');
  if (typeof share !== 'number' || !(share > 0 && share < 1)) {
    throw new ArgumentError(
      'ERR_OPTION',
      'splitCorpus',
      'validation',
      show(share),
      'Give a share between 0 and 1, for example 0.1',
    );
  }
  const groups = new Map<string, { hash: number; bytes: number }>();
  let total = 0;
  for (const { name, bytes } of files) {
    const key = group(name);
    const known = groups.get(key) ?? { hash: hashText(key, seed), bytes: 0 };
    known.bytes += bytes.byteLength;
    groups.set(key, known);
    total += bytes.byteLength;
  }
  if (total < 2) {
    throw new ArgumentError(
      'ERR_VALUE',
      'splitCorpus',
      'files',
      `${files.length} files of ${total} bytes`,
      'Give at least two bytes of text',
    );
  }
  if (groups.size === 1) {
    const kept = files.filter(({ bytes }) => bytes.byteLength > 0);
    const last = kept.pop() as TextFile;
    if (kept.length > 0) return { train: kept, validation: [last] };
    return splitFile(last, share);
  }
  const order = [...groups].sort(([a, x], [b, y]) => x.hash - y.hash || (a < b ? -1 : 1));
  const chosen = new Set<string>();
  const target = share * total;
  let bytes = 0;
  for (const [key, info] of order) {
    if (Math.abs(bytes + info.bytes - target) >= Math.abs(bytes - target)) continue;
    if (bytes + info.bytes >= total) continue; // training needs text too
    chosen.add(key);
    bytes += info.bytes;
  }
  if (bytes === 0) {
    const smallest = order
      .filter(([, info]) => info.bytes > 0)
      .reduce((a, b) => (b[1].bytes < a[1].bytes ? b : a));
    chosen.add(smallest[0]);
    if (smallest[1].bytes === total) {
      return splitFile(files.find((file) => file.bytes.byteLength > 0) as TextFile, share);
    }
  }
  return {
    train: files.filter(({ name }) => !chosen.has(group(name))),
    validation: files.filter(({ name }) => chosen.has(group(name))),
  };
}
