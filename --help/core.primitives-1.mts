import { full } from 'longspan';
const half = full([2, 3], 0.5);


export {};
