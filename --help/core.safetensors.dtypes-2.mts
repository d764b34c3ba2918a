import { bitsPerElement } from 'longspan';
bitsPerElement('BF16'); // 16


export {};
