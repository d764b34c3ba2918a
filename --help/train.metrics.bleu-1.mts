import { corpusBleu } from 'longspan';
corpusBleu([['the', 'cat', 'sat', 'down']], [[['the', 'cat', 'sat', 'down']]]).score; // 1


export {};
