// lib/core
export {
  type AtomicFile,
  openAtomicFile,
  writeFileAtomic,
  writeFileAtomicSync,
} from './core/atomic-file.js';
export {
  bf16ToF32,
  type Float16ArrayLike,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  float16View,
  hasFloat16Array,
} from './core/half.js';
export * from './core/index.js';
export * from './core/safetensors/index.js';
