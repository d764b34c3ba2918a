import { tensor, backward } from 'longspan';
const w = tensor([1, 2, 3]).requireGrad();
backward(sum(mul(w, w)));
console.log(w.grad?.dataSync()); // 2, 4, 6


export {};
