import { fitNgram } from 'longspan';
const trigram = fitNgram([Buffer.from('to be or not to be'), Buffer.from('to be is to do')], 3);
trigram.bitsPerByte([Buffer.from('not to do')]);


export {};
