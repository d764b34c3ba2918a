import { bernoulli } from 'longspan';
const mask = bernoulli([4, 4], { p: 0.15, dtype: 'u8' });


export {};
