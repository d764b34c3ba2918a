import { evaluationBatches } from 'longspan';
const text = Buffer.from('to be, or not to be: that is the question');
let bytes = 0;
for (const { inputs, targets, count } of evaluationBatches(text, { batch: 2, length: 8 })) {
  bytes += count; // targets of the text: the weight of this batch's average loss
}


export {};
