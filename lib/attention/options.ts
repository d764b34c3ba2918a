/** The options of exact attention, checked and as the kernels take them. */
import { tensor } from '../core/create.js';
import { asTensor, field, show } from '../core/declare.js';
import { ArgumentError } from '../core/errors.js';
import { type Generator, generatorFor } from '../core/generator.js';
import { Tensor } from '../core/tensor.js';
import { BlockMask, type MaskTensors } from './block-mask/index.js';

/** A sliding window: how many keys before and after its own position a query sees; -1 is no limit. */
export type AttentionWindow = readonly [left: number, right: number];

/** One for queries and keys alike, or one for each. */
export type ForQueriesAndKeys<T> = T | { readonly queries: T; readonly keys: T };

/**
 * Where packed sequences begin and end: 0, then the running sum of their lengths. Numbers are checked
 * before anything runs; a tensor, i32[S + 1], is read when the operator runs. There a CPU reports
 * boundaries that do not ascend from 0 to the number of tokens.
 */
export type SequenceBoundaries = Tensor | readonly number[];

/** Options of `attention`. Scores are `softcap(scale * q k^T) + bias - ALiBi`, then the masks hide pairs. */
export interface AttentionOptions {
  /**
   * Query i sees key j only when j <= i + (keys - queries): the masks align to the bottom right corner,
   * with valid lengths where lengths are given. Default false.
   */
  causal?: boolean;
  /** Factor on the products. Default 1 / sqrt(D). */
  scale?: number;
  /** i32[B]: keys from this position on do not exist. Read when the operator runs. */
  keyLengths?: Tensor;
  /** i32[B]: queries from this position on do not exist: output 0, log-sum-exp -Infinity, no gradient. */
  queryLengths?: Tensor;
  /** Sliding window, both ends inclusive, aligned as `causal`. */
  window?: AttentionWindow;
  /**
   * Prefix language model: i32[B], or i32[S] with `cuSeqlens`. Keys before this position are hidden
   * neither by `causal` nor by the right end of `window` (Raffel et al. 2020, section 3.2.1).
   */
  prefixLengths?: Tensor;
  /**
   * Sequences packed end to end instead of padded: `q` is [tokens, Hq, D], `k` and `v` likewise, the
   * output [tokens, Hq, Dv], the log-sum-exp [Hq, tokens]; or the usual four axes with a batch of 1.
   * A sequence sees only itself, and may be empty. Everything that is aligned or counted from a
   * position is so per sequence.
   */
  cuSeqlens?: ForQueriesAndKeys<SequenceBoundaries>;
  /**
   * i32[B, N] for queries and i32[B, M] for keys: a query sees only keys of its own segment, as with
   * documents packed into one row. Ids need not be sorted; tiles that no segment joins are skipped,
   * which pays when they are.
   */
  segmentIds?: ForQueriesAndKeys<Tensor>;
  /** Pairs that a block-sparse mask shows; what it hides costs nothing. Not with `cuSeqlens`. */
  blockMask?: BlockMask;
  /** Scores become `softcap * tanh(score / softcap)` before bias and masks. */
  softcap?: number;
  /**
   * Added to the scores: anything that broadcasts to [B, Hq, N, M], in the dtype of `q` or f32. Its
   * gradient is summed over what it is repeated over, tile by tile.
   */
  bias?: Tensor;
  /**
   * ALiBi (Press et al. 2022): `slope * |i + keys - queries - j|` is subtracted. [Hq] or [B, Hq] in f32
   * (f64 for f64), not differentiated; see `alibiSlopes`.
   */
  alibiSlopes?: Tensor;
  /**
   * Attention sinks: per query head a logit, [Hq] in f32 (f64 for f64), that takes part in every row's
   * sum and has no value. A row without keys then has it as its log-sum-exp. Differentiable.
   */
  sinks?: Tensor;
  /** Probability with which a weight is dropped after the softmax, the others growing by 1 / (1 - p). */
  dropout?: number;
  /** Of the dropout. Default: the default generator of the device. */
  generator?: Generator;
  /** Whether heads or tokens come first: `[B, H, N, D]` (default) or `[B, N, H, D]`, in results too. */
  layout?: 'bhnd' | 'bnhd';
  /** Return `[output, logSumExp]`. Default false. */
  returnLse?: boolean;
}

/** @internal */
export const optionNames = [
  'causal',
  'scale',
  'keyLengths',
  'queryLengths',
  'window',
  'prefixLengths',
  'cuSeqlens',
  'segmentIds',
  'blockMask',
  'softcap',
  'bias',
  'alibiSlopes',
  'sinks',
  'dropout',
  'generator',
  'layout',
  'returnLse',
];

const features = {
  cuSeqlensQ: field.optional,
  cuSeqlensK: field.optional,
  prefixLengths: field.optional,
  querySegments: field.optional,
  keySegments: field.optional,
  maskRows: field.optional,
  maskRowBlocks: field.optional,
  maskColumns: field.optional,
  maskColumnBlocks: field.optional,
  maskBits: field.optional,
  maskBlock: field.integer,
  bias: field.optional,
  alibiSlopes: field.optional,
  sinks: field.optional,
  dropoutState: field.optional,
  dropout: field.number,
} as const;

/** @internal The fields that all native operators of exact attention share. */
export const problemFields = {
  keyLengths: field.optional,
  queryLengths: field.optional,
  features: field.group(features),
  scale: field.number,
  softcap: field.number,
  causal: field.flag,
  windowLeft: field.integer,
  windowRight: field.integer,
  tokenMajor: field.flag,
} as const;

/** @internal What few calls give, without bias and sinks, which the tape must see. */
export interface AttentionFeatures extends MaskTensors {
  cuSeqlensQ: Tensor | null;
  cuSeqlensK: Tensor | null;
  prefixLengths: Tensor | null;
  querySegments: Tensor | null;
  keySegments: Tensor | null;
  alibiSlopes: Tensor | null;
  dropoutState: Tensor | null;
  dropout: number;
  /** Tensors among these that the call made for itself. */
  made: Tensor[];
}

/** @internal The options as the kernels take them. */
export interface AttentionProblem {
  keyLengths: Tensor | null;
  queryLengths: Tensor | null;
  features: AttentionFeatures | null;
  scale: number;
  softcap: number;
  causal: boolean;
  windowLeft: number;
  windowRight: number;
  tokenMajor: boolean;
}

/** @internal Checks the options that are not tensors. */
export function problemOf(
  operator: string,
  q: Tensor,
  k: Tensor | null,
  options: AttentionOptions,
): AttentionProblem {
  const { causal = false, window, softcap, layout = 'bhnd' } = options;
  const { scale = 1 / Math.sqrt(asTensor(operator, 'q', q).shape.at(-1) || 1) } = options;
  if (window !== undefined && !(Array.isArray(window) && window.length === 2)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'window',
      show(window),
      'Use [left, right], -1 for no limit',
    );
  }
  if (softcap !== undefined && !(typeof softcap === 'number' && softcap > 0)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'softcap',
      show(softcap),
      'Use a positive number, or leave it out',
    );
  }
  if (layout !== 'bhnd' && layout !== 'bnhd') {
    throw new ArgumentError('ERR_OPTION', operator, 'layout', show(layout), "Use 'bhnd' or 'bnhd'");
  }
  const tokenMajor = layout === 'bnhd';
  return {
    keyLengths: options.keyLengths ?? null,
    queryLengths: options.queryLengths ?? null,
    features: featuresOf(operator, q, k ?? q, tokenMajor, options),
    scale,
    softcap: softcap ?? 0,
    causal,
    windowLeft: window ? window[0] : -1,
    windowRight: window ? window[1] : -1,
    tokenMajor,
  };
}

const noMask: MaskTensors = {
  maskRows: null,
  maskRowBlocks: null,
  maskColumns: null,
  maskColumnBlocks: null,
  maskBits: null,
  maskBlock: 0,
};

function featuresOf(
  operator: string,
  q: Tensor,
  k: Tensor,
  tokenMajor: boolean,
  options: AttentionOptions,
): AttentionFeatures | null {
  const { cuSeqlens, prefixLengths, segmentIds, blockMask, bias, alibiSlopes, sinks } = options;
  const { dropout = 0 } = options;
  if (
    dropout === 0 &&
    (cuSeqlens ?? prefixLengths ?? segmentIds ?? blockMask ?? bias ?? alibiSlopes ?? sinks) ===
      undefined
  ) {
    return null;
  }
  if (typeof dropout !== 'number' || !(dropout >= 0 && dropout < 1)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'dropout',
      show(dropout),
      'Use a probability from 0 to below 1',
    );
  }
  const boundaries = pairOf(operator, 'cuSeqlens', cuSeqlens);
  const segments = pairOf(operator, 'segmentIds', segmentIds);
  const made: Tensor[] = [];
  const packed = boundaries && boundariesOf(operator, boundaries, q, k, tokenMajor, made);
  return {
    ...(blockMask ? maskOf(operator, blockMask, q, k, tokenMajor) : noMask),
    cuSeqlensQ: packed?.[0] ?? null,
    cuSeqlensK: packed?.[1] ?? null,
    prefixLengths: prefixLengths ?? null,
    querySegments: segments?.queries ?? null,
    keySegments: segments?.keys ?? null,
    alibiSlopes: alibiSlopes ?? null,
    dropoutState: null,
    dropout,
    made,
  };
}

/** @internal The random numbers of a call, one word per pair with rows of keys padded to whole blocks. */
export function drawDropout(
  operator: string,
  q: Tensor,
  k: Tensor,
  tokenMajor: boolean,
  generator: Generator | undefined,
): Tensor {
  const [heads, tokens] = tokenMajor ? [2, 1] : [1, 2];
  const size = (t: Tensor, axis: number) => t.shape[axis] ?? 1;
  const row = Math.ceil(size(k, tokens) / 4) * 4;
  const words = size(q, 0) * size(q, heads) * size(q, tokens) * row;
  return generatorFor(operator, generator, q.device).draw(words);
}

function pairOf<T extends object>(
  operator: string,
  name: string,
  given: ForQueriesAndKeys<T> | undefined,
): { queries: T; keys: T } | null {
  if (given === undefined) return null;
  if (given instanceof Tensor || Array.isArray(given)) {
    return { queries: given as T, keys: given as T };
  }
  const { queries, keys } = (given ?? {}) as Partial<{ queries: T; keys: T }>;
  if (queries && keys) return { queries, keys };
  throw new ArgumentError(
    'ERR_VALUE',
    operator,
    name,
    show(given),
    'Give one for both, or { queries, keys }',
  );
}

function maskOf(
  operator: string,
  mask: BlockMask,
  q: Tensor,
  k: Tensor,
  tokenMajor: boolean,
): MaskTensors {
  if (!(mask instanceof BlockMask)) {
    throw new ArgumentError(
      'ERR_VALUE',
      operator,
      'blockMask',
      show(mask),
      'Pass a BlockMask; BlockMask.where() makes one',
    );
  }
  const axis = tokenMajor ? 1 : 2;
  const [queries, keys] = [q.shape[axis], k.shape[axis]];
  if (mask.queries !== queries || mask.keys !== keys) {
    throw new ArgumentError(
      'ERR_SHAPE',
      operator,
      'blockMask',
      `a mask for ${mask.queries} queries and ${mask.keys} keys`,
      `Make one for ${queries} queries and ${keys} keys`,
    );
  }
  return mask.tensors();
}

/** Boundaries of queries and keys as tensors; those that had to be made are pushed on `made`. */
function boundariesOf(
  operator: string,
  { queries, keys }: { queries: SequenceBoundaries; keys: SequenceBoundaries },
  q: Tensor,
  k: Tensor,
  tokenMajor: boolean,
  made: Tensor[],
): [Tensor, Tensor] {
  const same = queries === keys;
  const tokens = (x: Tensor) => x.shape[tokenMajor ? 1 : 2];
  const make = (name: string, given: SequenceBoundaries, x: Tensor): Tensor => {
    if (given instanceof Tensor) return given;
    checkBoundaries(operator, name, given, tokens(x));
    const boundaries = tensor(Int32Array.from(given), { device: x.device });
    made.push(boundaries);
    return boundaries;
  };
  const first = make(same ? 'cuSeqlens' : 'cuSeqlens.queries', queries, q);
  if (!same) return [first, make('cuSeqlens.keys', keys, k)];
  if (!(keys instanceof Tensor)) checkBoundaries(operator, 'cuSeqlens', keys, tokens(k));
  return [first, first];
}

function checkBoundaries(
  operator: string,
  name: string,
  given: readonly number[],
  tokens: number | undefined,
): void {
  const ascends = given.every(
    (at, i) => Number.isInteger(at) && (i === 0 ? at === 0 : at >= (given[i - 1] as number)),
  );
  if (ascends && given.length > 0 && given.at(-1) === tokens) return;
  throw new ArgumentError(
    'ERR_VALUE',
    operator,
    name,
    `[${given.length > 8 ? `${given.slice(0, 4)}, ..., ${given.slice(-3)}` : given}]`,
    `Begin with 0, ascend, and end with the number of tokens, ${tokens}`,
  );
}
