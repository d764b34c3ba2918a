/** What exact attention can do, before it is asked to. */
import { show } from '../core/declare.js';
import { type Device, device as deviceOf } from '../core/device.js';
import type { DType } from '../core/dtype.js';
import { LongspanError } from '../core/errors.js';
import { checkList, checkOptions } from '../core/options.js';
import type { AttentionOptions } from './options.js';

/** A use of `attention` that somebody plans. */
export interface AttentionConfig {
  /** Default `cpu`. */
  device?: Device | string;
  /** Of queries, keys and values. Default f32. */
  dtype?: DType;
  /** D of queries and keys. */
  headDim?: number;
  /** Of values. Default `headDim`. */
  valueDim?: number;
  queryHeads?: number;
  /** Default `queryHeads`. */
  keyHeads?: number;
  /** The options that will be given. */
  uses?: readonly (keyof AttentionOptions)[];
}

/** The answer of `attention.supported`. */
export type AttentionSupport =
  | { readonly supported: true }
  | { readonly supported: false; readonly reasons: readonly string[] };

const notWithPacked = ['keyLengths', 'queryLengths', 'bias', 'blockMask'] as const;

/** Everything that stands against a use of `attention`. */
export function attentionSupported(config: AttentionConfig): AttentionSupport {
  checkOptions('attention.supported', config, [
    'device',
    'dtype',
    'headDim',
    'valueDim',
    'queryHeads',
    'keyHeads',
    'uses',
  ]);
  const { dtype = 'f32', headDim = 64, valueDim = headDim, uses = [] } = config;
  checkList('attention.supported', 'uses', uses, 'options of attention');
  const { queryHeads = 1, keyHeads = queryHeads } = config;
  const reasons: string[] = [];
  let onCuda = false;
  try {
    onCuda = deviceOf(config.device).type === 'cuda';
  } catch (error) {
    if (!(error instanceof LongspanError)) throw error;
    reasons.push(error.message);
  }
  if (!['f32', 'bf16', 'f16', 'f64'].includes(dtype)) {
    reasons.push(
      `dtype ${typeof dtype === 'string' ? dtype : show(dtype)}: attention takes f32, bf16, f16 and, on the CPU, f64`,
    );
  }
  if (dtype === 'f64' && onCuda) reasons.push('dtype f64: only the CPU has it');
  for (const [name, dim] of Object.entries({ headDim, valueDim })) {
    if (!(Number.isInteger(dim) && dim >= 1 && dim <= 256)) {
      reasons.push(`${name} ${show(dim)}: head dimensions are 1 to 256`);
    }
  }
  if (!(keyHeads >= 1 && queryHeads >= 1 && queryHeads % keyHeads === 0)) {
    reasons.push(
      `${show(queryHeads)} query heads, ${show(keyHeads)} key heads: the former must be a multiple`,
    );
  }
  if (uses.includes('cuSeqlens')) {
    for (const name of notWithPacked) {
      if (uses.includes(name))
        reasons.push(`${name} with cuSeqlens: packed sequences leave it out`);
    }
  }
  return reasons.length === 0 ? { supported: true } : { supported: false, reasons };
}
