import { f32ToF16 } from 'longspan';
f32ToF16(new Float32Array([1, -2])); // Uint16Array [0x3c00, 0xc000]


export {};
