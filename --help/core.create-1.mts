import { tensor } from 'longspan';
const a = tensor([[1, 2], [3, 4]]);
const ids = tensor(new Int32Array([5, 6]), { shape: [1, 2] });


export {};
