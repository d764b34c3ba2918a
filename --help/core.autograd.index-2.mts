import { tensor, gradients } from 'longspan';
const x = tensor([1, 2, 3]).requireGrad();
const [dx] = gradients([sum(mul(x, x))], [x]);
console.log(dx?.dataSync()); // 2, 4, 6; x.grad stays null


export {};
