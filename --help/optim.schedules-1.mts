import { constantSchedule } from 'longspan';
const rate = constantSchedule({ rate: 1e-3 });
rate(1000); // 1e-3


export {};
