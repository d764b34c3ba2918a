import { show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkInstance, checkObject, checkText } from '../core/options.js';
import { type DecoderModel, type GenerateOptions, generate } from './generate.js';
import { ByteVocabulary } from './text/index.js';

/** Options of {@link generateText}. */
export interface GenerateTextOptions extends Omit<GenerateOptions, 'stop'> {
  /** Texts that end the output; the one that did is not part of it. */
  stop?: readonly string[];
  /** How text becomes tokens; bytes by default. */
  vocabulary?: ByteVocabulary;
}

/**
 * Text that may still turn into a stop text is held back, so that no part of one is ever shown.
 */
class StopFilter {
  #held = '';
  stopped = false;

  constructor(private readonly stops: readonly string[]) {}

  /** What can be shown once `text` has come. */
  push(text: string): string {
    const all = this.#held + text;
    const hits = this.stops.map((stop) => all.indexOf(stop)).filter((at) => at >= 0);
    if (hits.length > 0) {
      this.stopped = true;
      this.#held = '';
      return all.slice(0, Math.min(...hits));
    }
    let keep = 0;
    for (const stop of this.stops) {
      for (let n = Math.min(stop.length - 1, all.length); n > keep; n--) {
        if (all.endsWith(stop.slice(0, n))) keep = n;
      }
    }
    this.#held = keep > 0 ? all.slice(-keep) : '';
    return keep > 0 ? all.slice(0, -keep) : all;
  }

  /** What was held back and turned out to be ordinary. */
  end(): string {
    return this.stopped ? '' : this.#held;
  }
}

/**
 * Continues a text with a byte-level model, piece by piece. A character appears when its last byte is
 * there, so pieces are always whole characters.
 *
 * @param prompt text to continue; it is not part of the output
 * @throws ArgumentError for an empty prompt or stop text, and as {@link generate}
 * @example
 * const model = new TransformerLM({ vocabSize: 256, dModel: 32, layers: 1, heads: 2 });
 * let text = '';
 * for await (const piece of generateText(model, 'export ', { maxTokens: 10, temperature: 0.8 })) {
 *   text += piece; // or process.stdout.write(piece)
 * }
 */
export async function* generateText(
  model: DecoderModel,
  prompt: string,
  options: GenerateTextOptions = {},
): AsyncGenerator<string, void, undefined> {
  checkText('generateText', 'prompt', prompt);
  checkObject('generateText', 'options', options, 'those of generate, and stop, vocabulary');
  const { stop = [], vocabulary = new ByteVocabulary(), ...rest } = options;
  checkInstance('generateText', 'vocabulary', vocabulary, ByteVocabulary);
  if (!Array.isArray(stop) || stop.some((text) => typeof text !== 'string' || text === '')) {
    throw new ArgumentError(
      'ERR_OPTION',
      'generateText',
      'stop',
      show(stop),
      'Give texts that are not empty',
    );
  }
  const filter = new StopFilter(stop);
  const decoder = vocabulary.decoder();
  for await (const token of generate(model, vocabulary.encode(prompt), rest)) {
    const shown = filter.push(decoder.push(token));
    if (shown) yield shown;
    if (filter.stopped) return;
  }
  const shown = filter.push(decoder.end()) + filter.end();
  if (shown) yield shown;
}
