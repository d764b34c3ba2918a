import { ones, noGrad } from 'longspan';
const layer = new Linear(4, 2);
const prediction = noGrad(() => layer.forward(ones([1, 4])));
console.log(prediction.requiresGrad); // false


export {};
