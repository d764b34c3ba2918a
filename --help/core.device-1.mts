import { device } from 'longspan';
const cpu = device('cpu');
console.log(cpu.memory().active);


export {};
