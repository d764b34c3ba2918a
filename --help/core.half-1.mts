import { f16ToF32, f32ToF16, float16View } from 'longspan';
const bits = f32ToF16(new Float32Array([1.5]));
console.log(float16View(bits)?.[0] ?? f16ToF32(bits)[0]); // 1.5


export {};
