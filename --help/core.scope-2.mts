import { tensor, tidy } from 'longspan';
const x = tensor([1, 2, 3]);
const y = tidy(() => add(mul(x, x), x)); // x * x is freed, y is not


export {};
