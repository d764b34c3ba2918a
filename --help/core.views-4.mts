import { arange, slice } from 'longspan';
slice(arange(6), 0, 1, -1).dataSync(); // 1, 2, 3, 4


export {};
