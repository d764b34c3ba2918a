import { show } from '../declare.js';
import { ArgumentError } from '../errors.js';

/** Element types of the safetensors format and their sizes in bits. */
const BITS = {
  F64: 64,
  F32: 32,
  F16: 16,
  BF16: 16,
  I64: 64,
  I32: 32,
  I16: 16,
  I8: 8,
  U64: 64,
  U32: 32,
  U16: 16,
  U8: 8,
  BOOL: 8,
  C64: 64,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
} as const;

/** An element type of the safetensors format. `F4` and the `F6` types pack several values a byte. */
export type SafetensorsDtype = keyof typeof BITS;

/** Every element type the reader and the writer know. */
export const safetensorsDtypes = Object.freeze(Object.keys(BITS)) as readonly SafetensorsDtype[];

/**
 * Whether `name` is an element type of the format.
 *
 * @example
 * isSafetensorsDtype('BF16'); // true
 * isSafetensorsDtype('bf16'); // false
 */
export function isSafetensorsDtype(name: string): name is SafetensorsDtype {
  return Object.hasOwn(BITS, name);
}

/**
 * Size of one element in bits.
 *
 * @throws {ArgumentError} for a dtype the format does not have.
 * @example
 * bitsPerElement('BF16'); // 16
 */
export function bitsPerElement(dtype: SafetensorsDtype): number {
  if (isSafetensorsDtype(dtype)) return BITS[dtype];
  const remedy = 'Use F32, BF16 or another dtype of the format';
  throw new ArgumentError('ERR_DTYPE', 'bitsPerElement', 'dtype', show(dtype), remedy);
}

/**
 * Bytes of a tensor, or `undefined` where the count is not exact: beyond 2^53, or packed values
 * that do not fill their last byte.
 */
export function byteLengthOf(
  dtype: SafetensorsDtype,
  shape: readonly number[],
): number | undefined {
  let elements = 1;
  if (shape.includes(0)) return 0;
  for (const size of shape) {
    elements *= size;
    if (!Number.isSafeInteger(elements * 64)) return undefined;
  }
  const bits = elements * BITS[dtype];
  return bits % 8 === 0 ? bits / 8 : undefined;
}
