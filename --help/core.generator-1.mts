import { Generator, uniform } from 'longspan';
const generator = new Generator(7);
const a = uniform([2, 3], { generator });
generator.seed(7);
const b = uniform([2, 3], { generator }); // equal to a


export {};
