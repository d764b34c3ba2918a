import { zeros, unsqueeze } from 'longspan';
unsqueeze(zeros([2, 3]), 0).shape; // [1, 2, 3]


export {};
