/**
 * Element types. `f16` and `bf16` are storage formats: arithmetic on them happens in f32. `f64` exists
 * on the CPU only, for tests. Indices are `i32`, masks `u8`.
 */
export type DType = 'f32' | 'f16' | 'bf16' | 'f64' | 'i32' | 'u8';

/** Order is the native DType enumeration's. */
export const dtypes = ['f32', 'f16', 'bf16', 'f64', 'i32', 'u8'] as const satisfies DType[];

/** Position of a dtype in the native enumeration. */
export const dtypeIndex: Readonly<Record<DType, number>> = {
  f32: 0,
  f16: 1,
  bf16: 2,
  f64: 3,
  i32: 4,
  u8: 5,
};

/** Bytes per element. */
export const dtypeSize: Readonly<Record<DType, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  f64: 8,
  i32: 4,
  u8: 1,
};

/** Whether gradients can flow through tensors of this dtype. */
export function isFloating(dtype: DType): boolean {
  return dtype !== 'i32' && dtype !== 'u8';
}

/** What `Tensor.data()` gives: 16-bit floats as raw bits in a `Uint16Array` where the runtime lacks `Float16Array`. */
export type TensorData = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array;

type Float16Constructor = new (buffer: ArrayBuffer) => Uint16Array;

/** The typed array that shows `buffer` as elements of `dtype`. */
export function typedArrayOf(dtype: DType, buffer: ArrayBuffer): TensorData {
  switch (dtype) {
    case 'f32':
      return new Float32Array(buffer);
    case 'f64':
      return new Float64Array(buffer);
    case 'i32':
      return new Int32Array(buffer);
    case 'u8':
      return new Uint8Array(buffer);
    case 'f16': {
      const Float16 = (globalThis as { Float16Array?: Float16Constructor }).Float16Array;
      return Float16 ? new Float16(buffer) : new Uint16Array(buffer);
    }
    case 'bf16':
      return new Uint16Array(buffer);
  }
}
