import { ones, matmul } from 'longspan';
const scores = matmul(ones([2, 3, 4]), ones([4, 5]), { activation: 'relu' }); // [2, 3, 5]


export {};
