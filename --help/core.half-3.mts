import { f16ToF32 } from 'longspan';
f16ToF32(new Uint16Array([0x3c00])); // Float32Array [1]


export {};
