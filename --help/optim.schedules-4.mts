import { cosineSchedule } from 'longspan';
const rate = cosineSchedule({ rate: 1e-3, steps: 1000, warmup: 100, floor: 1e-4 });
rate(100); // 1e-3
rate(1000); // 1e-4


export {};
