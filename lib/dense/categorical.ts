import { field, nativeOperator, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { type Generator, generatorFor } from '../core/generator.js';
import { checkOptions } from '../core/options.js';
import { Tensor } from '../core/tensor.js';

const categoricalCall = nativeOperator('categorical', {
  logits: field.input,
  state: field.input,
  temperature: field.number,
  topK: field.integer,
  topP: field.number,
  ids: field.output,
});

/** Options of {@link categorical}. */
export interface CategoricalOptions {
  /** Logits are divided by it; 0 takes the largest, the first of equals. Default 1. */
  temperature?: number;
  /** Draw among that many of the largest logits; 0 for all. Default 0. */
  topK?: number;
  /** Of those, draw among the fewest of the largest whose probabilities sum to at least this. Default 1. */
  topP?: number;
  /** Default: the default generator of the device. */
  generator?: Generator;
}

/**
 * Draws one class per row from softmax(logits / temperature): i32 ids. Equal seeds draw equal ids.
 *
 * @param logits floating, [..., V]; -Infinity excludes a class. NaN, Infinity or a row of -Infinity make
 *   the operator fail when it runs: reading the ids throws an OperatorError that names row and class.
 * @returns i32[...]
 * @throws ArgumentError for shapes, dtypes or options that do not fit
 * @example
 * const next = categorical(tensor([[0, 9, 0]]), { temperature: 0 });
 * next.dataSync(); // 1
 */
export function categorical(logits: Tensor, options: CategoricalOptions = {}): Tensor {
  checkOptions('categorical', options, ['temperature', 'topK', 'topP', 'generator']);
  const { temperature = 1, topK = 0, topP = 1, generator } = options;
  if (!(logits instanceof Tensor)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'categorical',
      'logits',
      show(logits),
      'Pass a Tensor; tensor(data) makes one',
    );
  }
  logits.live('categorical');
  const rows = logits.shape.slice(0, -1).reduce((n, d) => n * d, 1);
  // Four words a row: each row has a block of its own.
  const state = generatorFor('categorical', generator, logits.device).draw(4 * rows);
  try {
    return categoricalCall({ logits, state, temperature, topK, topP }).ids;
  } finally {
    state.dispose();
  }
}
