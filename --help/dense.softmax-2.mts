import { tensor, logSoftmax } from 'longspan';
logSoftmax(tensor([0, 0])).dataSync(); // -0.6931, -0.6931


export {};
