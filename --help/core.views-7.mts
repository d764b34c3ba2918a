import { zeros, squeeze } from 'longspan';
squeeze(zeros([2, 1, 3]), 1).shape; // [2, 3]


export {};
