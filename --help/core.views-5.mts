import { arange, zeros, split } from 'longspan';
const [q, k, v] = split(zeros([2, 24]), 3, -1); // each [2, 8]
const [head, tail] = split(arange(5), [2, 3]);


export {};
