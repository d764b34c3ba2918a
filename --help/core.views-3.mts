import { zeros, transpose } from 'longspan';
transpose(zeros([2, 3, 4])).shape; // [2, 4, 3]


export {};
