import { zeros } from 'longspan';
zeros([2, 3]).shape; // [2, 3]
zeros([4], { dtype: 'i32' }).dataSync(); // 0, 0, 0, 0


export {};
