import { ones, zeros, linear } from 'longspan';
const y = linear(ones([2, 10, 4]), ones([8, 4]), zeros([8]), { activation: 'gelu' }); // [2, 10, 8]


export {};
