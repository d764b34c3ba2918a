import { ones, checkpoint, backward } from 'longspan';
const layer = new Linear(8, 8);
const x = ones([2, 8]).requireGrad();
const y = checkpoint((h) => gelu(layer.forward(h)), [x]);
backward(y, { gradient: ones([2, 8]) }); // computes the layer once more


export {};
