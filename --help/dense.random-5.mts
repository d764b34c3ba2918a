import { permutation } from 'longspan';
const order = permutation(10);


export {};
