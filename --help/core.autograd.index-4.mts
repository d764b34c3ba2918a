import { tensor, backward, releaseGraph } from 'longspan';
const x = tensor([1, 2, 3]).requireGrad();
const loss = sum(mul(x, x));
releaseGraph([loss]); // frees x * x; a backward(loss) would now throw


export {};
