import { ByteVocabulary } from 'longspan';
const vocabulary = new ByteVocabulary(['<bos>', '<eos>']);
vocabulary.size; // 258
vocabulary.special('<eos>'); // 257
vocabulary.decode(vocabulary.encode('zwölf')); // 'zwölf'


export {};
