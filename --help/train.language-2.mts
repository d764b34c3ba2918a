import { evaluateText } from 'longspan';
const bitsPerByte = (await evaluateText(model, validation, { batch: 8, length: 256 })) / Math.LN2;


export {};
