import { Generator, uniform } from 'longspan';
const x = uniform([2, 3], { low: -1, high: 1, generator: new Generator(1) });


export {};
