import { zeros, permute } from 'longspan';
permute(zeros([2, 3, 4]), [2, 0, 1]).shape; // [4, 2, 3]


export {};
