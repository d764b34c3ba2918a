import { hashText } from 'longspan';
hashText('src/index.ts', 7); // an integer in [0, 2^32)


export {};
