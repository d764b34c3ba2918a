import {  } from 'longspan';
const { fma } = measurePeak({ threads: 1, seconds: 0.01 });
console.log(`${(fma / 1e9).toFixed(0)} GFLOP/s`);


export {};
