import { tensor, vjp } from 'longspan';
const f = vjp((x) => mul(x, x), [tensor([1, 2, 3])]);
const [g] = f.pullback(tensor([1, 1, 1])); // 2, 4, 6
f.dispose();


export {};
