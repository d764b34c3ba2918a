import { ngramBaselines } from 'longspan';
const training = [Buffer.from('to be or not to be'), Buffer.from('to be is to do')];
const { unigram, trigram } = ngramBaselines(training, [Buffer.from('not to do')]);


export {};
