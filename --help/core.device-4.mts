import { setNumThreads } from 'longspan';
const threads = setNumThreads(1);
console.log(threads); // 1


export {};
