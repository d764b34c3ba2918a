import { normal } from 'longspan';
const w = normal([64, 64], { std: 0.02 });


export {};
