import { zeros, device } from 'longspan';
const cpu = device('cpu');
const fastest = device('auto'); // a GPU where there is a usable one
zeros([2, 3], { device: fastest }).device.name;


export {};
