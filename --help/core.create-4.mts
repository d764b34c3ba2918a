import { arange } from 'longspan';
arange(3).dataSync(); // 0, 1, 2


export {};
