import { f32ToBf16 } from 'longspan';
f32ToBf16(new Float32Array([1])); // Uint16Array [0x3f80]


export {};
