import { arange, reshape } from 'longspan';
reshape(arange(6), [2, -1]).shape; // [2, 3]


export {};
