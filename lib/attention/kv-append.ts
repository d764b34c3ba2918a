/** Writing new tokens into a key/value cache. */
import { field, nativeOperator } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';

const appendCall = nativeOperator('kvCacheAppend', {
  keys: field.inout,
  values: field.inout,
  lengths: field.inout,
  k: field.input,
  v: field.input,
  counts: field.optional,
  pageTable: field.optional,
  rotary: field.group({
    q: field.optional,
    frequencies: field.optional,
    dim: field.integer,
    base: field.number,
    interleaved: field.flag,
  }),
  rotated: field.output,
});

/**
 * Rotary embedding of new keys on their way into a cache, with the options of `rotary`. Positions are read
 * from the cache's lengths on the device.
 */
export interface AppendRotary {
  /** Channels that turn, an even number; the others pass. Default all. */
  dim?: number;
  /** Frequency of pair i is base^(-2 i / dim). Default 10000. */
  base?: number;
  /** Radians per position of each pair, f32[dim / 2] (on the CPU also f64), instead of `base`. */
  frequencies?: Tensor;
  /** Pairs are (2 i, 2 i + 1) instead of (i, i + dim / 2). Default false. */
  interleaved?: boolean;
  /** Queries of the same tokens, [B, Hq, T, D], to be rotated likewise; `append` returns them. */
  queries?: Tensor;
}

interface Target {
  keys: Tensor;
  values: Tensor;
  lengths: Tensor;
  pageTable?: Tensor;
}

/** @internal The rotated queries, or null where none are given. */
export function appendTokens(
  operator: string,
  { keys, values, lengths, pageTable }: Target,
  k: Tensor,
  v: Tensor,
  counts: Tensor | null,
  turns: AppendRotary | undefined,
): Tensor | null {
  const { rotated } = appendCall({
    ...{ keys, values, lengths, k, v, counts },
    pageTable: pageTable ?? null,
    rotary: turns ? rotaryOf(operator, keys, turns) : null,
  });
  for (const t of [keys, values, lengths]) t.storage.version++;
  return turns?.queries ? rotated : null;
}

function rotaryOf(operator: string, keys: Tensor, turns: AppendRotary) {
  checkOptions(operator, turns, ['dim', 'base', 'frequencies', 'interleaved', 'queries']);
  const { dim = keys.shape[3] as number, base = 10000, interleaved = false } = turns;
  if (keys.dtype === 'f64' && keys.device.type === 'cuda') {
    const remedy = 'On a GPU use f32, f16 or bf16, or rotate before appending';
    throw new ArgumentError('ERR_DTYPE', operator, 'rotary', 'given for keys in f64', remedy);
  }
  const { queries: q = null, frequencies = null } = turns;
  return { q, frequencies, dim, base, interleaved };
}
