import { randint } from 'longspan';
const ids = randint([2, 8], 0, 256);


export {};
