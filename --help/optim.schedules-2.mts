import { noamSchedule } from 'longspan';
const rate = noamSchedule({ modelDim: 512, warmup: 4000 });
rate(4000); // the highest, 6.99e-4


export {};
