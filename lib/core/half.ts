/**
 * Conversion between 32-bit floats and the two 16-bit formats, IEEE binary16 (`f16`) and bfloat16
 * (`bf16`). The 16-bit values live as bits in a `Uint16Array`; where the runtime has
 * `Float16Array`, `float16View` shows the same bytes as numbers.
 *
 * Rounding is to nearest, ties to even; subnormals, infinities and signed zeros are exact; a NaN
 * stays a NaN (its sign and leading payload bits are kept, and it becomes quiet).
 */

import { ArgumentError } from './errors.js';
import { checkArray } from './options.js';

/** The part of the runtime's `Float16Array` that longspan relies on. */
export interface Float16ArrayLike extends ArrayBufferView {
  readonly length: number;
  [index: number]: number;
  set(source: ArrayLike<number>, offset?: number): void;
}

type Float16ArrayConstructor = new (
  buffer: ArrayBufferLike,
  byteOffset: number,
  length: number,
) => Float16ArrayLike;

const Float16 = (globalThis as { Float16Array?: Float16ArrayConstructor }).Float16Array;

/** Whether this runtime has `Float16Array`. */
export const hasFloat16Array: boolean = Float16 !== undefined;

/**
 * The same bytes as a `Float16Array` where the runtime has one, else `undefined`.
 *
 * @example
 * const bits = f32ToF16(new Float32Array([1.5]));
 * console.log(float16View(bits)?.[0] ?? f16ToF32(bits)[0]); // 1.5
 */
export function float16View(bits: Uint16Array): Float16ArrayLike | undefined {
  checkArray('float16View', 'bits', bits, 'Uint16Array');
  return Float16 && new Float16(bits.buffer, bits.byteOffset, bits.length);
}

/** Where the results of `source` go. */
function target<T extends Float32Array | Uint16Array>(
  operator: string,
  source: Float32Array | Uint16Array,
  out: T | undefined,
  make: (length: number) => T,
): T {
  const narrows = operator.startsWith('f32');
  const [from, to] = narrows
    ? (['Float32Array', 'Uint16Array'] as const)
    : (['Uint16Array', 'Float32Array'] as const);
  checkArray(operator, narrows ? 'source' : 'bits', source, from);
  const { length } = source;
  if (out === undefined) return make(length);
  checkArray(operator, 'out', out, to);
  if (out.length !== length) {
    throw new ArgumentError(
      'ERR_SHAPE',
      operator,
      'out',
      `an array of ${out.length} elements`,
      `Give an array of ${length} elements, or leave it out`,
    );
  }
  return out;
}

/** Bits of the nearest binary16 of a float32 given by its bits. */
function halfBits(x: number): number {
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 2^16 and above, infinity included
  if (magnitude >= 0x38800000) {
    // Normal: rebias the exponent, then round; a carry out of 65504 gives infinity by itself.
    const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
    return sign | ((rounded - 0x38000000) >>> 13);
  }
  if (magnitude < 0x33000000) return sign; // below half of the smallest subnormal
  // Subnormal: the value is m * 2^(e - 150) and the unit 2^-24.
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const quotient = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (quotient + (rest > half || (rest === half && (quotient & 1) === 1) ? 1 : 0));
}

/** float32 bits of every binary16 value, made on first use: 256 KiB. */
let table: Uint32Array | undefined;

function halfTable(): Uint32Array {
  if (table) return table;
  table = new Uint32Array(65536);
  for (let h = 0; h < 65536; h++) {
    const sign = (h & 0x8000) << 16;
    const exponent = (h >>> 10) & 0x1f;
    const mantissa = h & 0x3ff;
    let bits: number;
    if (exponent === 31) {
      bits = 0x7f800000 | (mantissa << 13) | (mantissa === 0 ? 0 : 0x400000);
    } else if (exponent > 0) {
      bits = ((exponent + 112) << 23) | (mantissa << 13);
    } else if (mantissa === 0) {
      bits = 0;
    } else {
      const zeros = Math.clz32(mantissa) - 21; // shifts until the leading bit is the hidden one
      bits = ((113 - zeros) << 23) | (((mantissa << zeros) & 0x3ff) << 13);
    }
    table[h] = sign | bits;
  }
  return table;
}

/**
 * Rounds float32 values to binary16 bits.
 *
 * @param source values; magnitudes of 65520 and more become infinity
 * @param out where to put the bits, of the same length; a new array by default
 * @example
 * f32ToF16(new Float32Array([1, -2])); // Uint16Array [0x3c00, 0xc000]
 */
export function f32ToF16(source: Float32Array, out?: Uint16Array): Uint16Array {
  const bits = target('f32ToF16', source, out, (n) => new Uint16Array(n));
  const words = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < words.length; i++) bits[i] = halfBits(words[i]);
  return bits;
}

/**
 * Widens binary16 bits to float32; exact.
 *
 * @example
 * f16ToF32(new Uint16Array([0x3c00])); // Float32Array [1]
 */
export function f16ToF32(bits: Uint16Array, out?: Float32Array): Float32Array {
  const values = target('f16ToF32', bits, out, (n) => new Float32Array(n));
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const lookup = halfTable();
  for (let i = 0; i < bits.length; i++) words[i] = lookup[bits[i]];
  return values;
}

/**
 * Rounds float32 values to bfloat16 bits.
 *
 * @example
 * f32ToBf16(new Float32Array([1])); // Uint16Array [0x3f80]
 */
export function f32ToBf16(source: Float32Array, out?: Uint16Array): Uint16Array {
  const bits = target('f32ToBf16', source, out, (n) => new Uint16Array(n));
  const words = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < words.length; i++) {
    const x = words[i];
    bits[i] =
      (x & 0x7fffffff) > 0x7f800000
        ? (x >>> 16) | 0x40 // NaN: quiet, so that cutting the payload cannot make it infinity
        : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  }
  return bits;
}

/**
 * Widens bfloat16 bits to float32; exact.
 *
 * @example
 * bf16ToF32(new Uint16Array([0x3f80])); // Float32Array [1]
 */
export function bf16ToF32(bits: Uint16Array, out?: Float32Array): Float32Array {
  const values = target('bf16ToF32', bits, out, (n) => new Float32Array(n));
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return values;
}
