import { ones, Generator, dropout } from 'longspan';
const y = dropout(ones([2, 4]), { p: 0.1, generator: new Generator(3) });


export {};
