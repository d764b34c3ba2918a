/**
 * A JSON reader for headers that come from strangers. It differs from `JSON.parse` where that is
 * too kind: a repeated key is an error instead of a silent overwrite, nesting is limited, and
 * objects become `Map`s, so that no key can reach a prototype.
 */

/** What `parseStrictJson` returns. */
export type StrictJson =
  | null
  | boolean
  | number
  | string
  | StrictJson[]
  | ReadonlyMap<string, StrictJson>;

/** Where and why a text is not the JSON that is accepted here. */
export class StrictJsonError extends Error {
  constructor(
    message: string,
    /** `duplicate` for a repeated key, `syntax` for all else. */
    readonly kind: 'duplicate' | 'syntax',
    /** The repeated key. */
    readonly key?: string,
  ) {
    super(message);
  }
}

const MAX_DEPTH = 16;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  document(): StrictJson {
    const value = this.value(0);
    this.space();
    if (this.at < this.text.length) throw this.unexpected();
    return value;
  }

  private unexpected(): StrictJsonError {
    const found = this.at < this.text.length ? JSON.stringify(this.text[this.at]) : 'the end';
    return new StrictJsonError(`unexpected ${found} at character ${this.at}`, 'syntax');
  }

  private space(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.at);
      if (c !== 32 && c !== 10 && c !== 13 && c !== 9) return;
      this.at++;
    }
  }

  /** Consumes `char` after white space if it is next. */
  private accept(char: string): boolean {
    this.space();
    if (this.text[this.at] !== char) return false;
    this.at++;
    return true;
  }

  private expect(char: string): void {
    if (!this.accept(char)) throw this.unexpected();
  }

  private value(depth: number): StrictJson {
    if (depth > MAX_DEPTH) {
      throw new StrictJsonError(`nesting deeper than ${MAX_DEPTH} levels`, 'syntax');
    }
    this.space();
    const c = this.text[this.at];
    if (c === '{') return this.object(depth);
    if (c === '[') return this.array(depth);
    if (c === '"') return this.string();
    for (const [word, meaning] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return meaning;
      }
    }
    NUMBER.lastIndex = this.at;
    const match = NUMBER.exec(this.text);
    if (!match) throw this.unexpected();
    this.at += match[0].length;
    return Number(match[0]);
  }

  private object(depth: number): ReadonlyMap<string, StrictJson> {
    const entries = new Map<string, StrictJson>();
    this.expect('{');
    if (this.accept('}')) return entries;
    do {
      this.space();
      const key = this.string();
      if (entries.has(key)) {
        throw new StrictJsonError(`key ${JSON.stringify(key)} occurs twice`, 'duplicate', key);
      }
      this.expect(':');
      entries.set(key, this.value(depth + 1));
    } while (this.accept(','));
    this.expect('}');
    return entries;
  }

  private array(depth: number): StrictJson[] {
    const items: StrictJson[] = [];
    this.expect('[');
    if (this.accept(']')) return items;
    do {
      items.push(this.value(depth + 1));
    } while (this.accept(','));
    this.expect(']');
    return items;
  }

  private string(): string {
    if (this.text[this.at] !== '"') throw this.unexpected();
    const start = this.at;
    let end = this.text.indexOf('"', start + 1);
    const backslash = this.text.slice(start, end < 0 ? undefined : end).indexOf('\\');
    if (backslash >= 0) {
      end = start + backslash;
      while (end < this.text.length && this.text[end] !== '"') {
        end += this.text[end] === '\\' ? 2 : 1;
      }
    }
    if (end < 0 || end >= this.text.length) {
      throw new StrictJsonError(`string at character ${start} has no end`, 'syntax');
    }
    this.at = end + 1;
    try {
      return JSON.parse(this.text.slice(start, end + 1)) as string; // control characters, escapes
    } catch {
      throw new StrictJsonError(`bad string at character ${start}`, 'syntax');
    }
  }
}

/**
 * Reads a JSON text.
 *
 * @throws {StrictJsonError} for anything but one JSON value without repeated keys.
 */
export function parseStrictJson(text: string): StrictJson {
  return new Parser(text).document();
}
