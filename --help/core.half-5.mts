import { bf16ToF32 } from 'longspan';
bf16ToF32(new Uint16Array([0x3f80])); // Float32Array [1]


export {};
