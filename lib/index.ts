// lib/core
export {
  openAtomicFile,
  writeFileAtomic,
  writeFileAtomicSync,
  type AtomicFile,
} from './core/atomic-file.js';
export * from './core/errors.js';
export {
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  float16View,
  hasFloat16Array,
  type Float16ArrayLike,
} from './core/half.js';
export * from './core/safetensors/index.js';
