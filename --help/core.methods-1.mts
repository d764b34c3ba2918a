import { tensor, cast } from 'longspan';
const half = cast(tensor([0.1, 0.2]), 'bf16');
console.log(half.toString()); // bf16[2]


export {};
