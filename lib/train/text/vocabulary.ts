/** The byte-level vocabulary: every text has an encoding, and no tokenizer has to be trained. */

import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import { checkArray, checkList, checkText } from '../../core/options.js';

/** Turns ids back into text while they arrive one by one. */
export interface TextDecoderStream {
  /** The text that became complete with these ids; special tokens give nothing. */
  push(ids: ArrayLike<number> | number): string;
  /** What is left at the end; an incomplete character becomes U+FFFD. */
  end(): string;
}

/**
 * Ids 0 to 255 are bytes; special tokens follow from 256 on, in the order given.
 *
 * @example
 * const vocabulary = new ByteVocabulary(['<bos>', '<eos>']);
 * vocabulary.size; // 258
 * vocabulary.special('<eos>'); // 257
 * vocabulary.decode(vocabulary.encode('zwölf')); // 'zwölf'
 */
export class ByteVocabulary {
  /** Number of ids. */
  readonly size: number;
  /** Names of the special tokens. */
  readonly specials: readonly string[];
  private readonly ids: ReadonlyMap<string, number>;

  /** @param specials names of special tokens, each once */
  constructor(specials: readonly string[] = []) {
    checkList('ByteVocabulary', 'specials', specials, 'names');
    for (const name of specials) checkText('ByteVocabulary', 'specials', name);
    this.ids = new Map(specials.map((name, i) => [name, 256 + i]));
    if (this.ids.size !== specials.length) {
      throw new ArgumentError(
        'ERR_VALUE',
        'ByteVocabulary',
        'specials',
        JSON.stringify(specials),
        'Give every special token its own name',
      );
    }
    this.specials = [...specials];
    this.size = 256 + specials.length;
  }

  /** Id of a special token. */
  special(name: string): number {
    const id = this.ids.get(name);
    if (id !== undefined) return id;
    throw new ArgumentError(
      'ERR_VALUE',
      'ByteVocabulary.special',
      'name',
      show(name),
      `The special tokens are: ${this.specials.join(', ') || 'none'}`,
    );
  }

  /** Ids of a text (as UTF-8) or of bytes. Names of special tokens in the text are mere text. */
  encode(text: string | Uint8Array): Int32Array {
    if (typeof text !== 'string') checkArray('ByteVocabulary.encode', 'text', text, 'Uint8Array');
    return Int32Array.from(typeof text === 'string' ? new TextEncoder().encode(text) : text);
  }

  /** Text of ids; special tokens give nothing, bytes that are not UTF-8 become U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    const stream = this.decoder();
    return stream.push(ids) + stream.end();
  }

  /** A decoder for ids that arrive one by one: a character appears when its last byte is there. */
  decoder(): TextDecoderStream {
    const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
    return {
      push: (ids) => {
        const list = typeof ids === 'number' ? [ids] : ids;
        return utf8.decode(this.bytes(list), { stream: true });
      },
      end: () => utf8.decode(),
    };
  }

  private bytes(ids: ArrayLike<number>): Uint8Array {
    if (!Array.isArray(ids) && !ArrayBuffer.isView(ids)) {
      const remedy = 'Pass a list of ids';
      throw new ArgumentError('ERR_VALUE', 'ByteVocabulary.decode', 'ids', show(ids), remedy);
    }
    const bytes = new Uint8Array(ids.length);
    let length = 0;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      if (!Number.isInteger(id) || id < 0 || id >= this.size) {
        throw new ArgumentError(
          'ERR_VALUE',
          'ByteVocabulary.decode',
          'ids',
          `${show(id)} at position ${i}`,
          `Ids are integers from 0 to ${this.size - 1}`,
        );
      }
      if (id < 256) bytes[length++] = id;
    }
    return bytes.subarray(0, length);
  }
}
