import { warmupSchedule } from 'longspan';
const rate = warmupSchedule({ rate: 1e-3, warmup: 100 });
rate(50); // 5e-4


export {};
