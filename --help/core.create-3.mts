import { ones } from 'longspan';
ones([2], { dtype: 'f64' }).dataSync(); // 1, 1


export {};
