import { tensor, softmax } from 'longspan';
softmax(tensor([1, 2, 3])).dataSync(); // 0.0900, 0.2447, 0.6652


export {};
