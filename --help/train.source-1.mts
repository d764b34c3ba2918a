import { textSource } from 'longspan';
const source = textSource({ data: bytes, batch: 16, length: 256, seed: 1 });


export {};
