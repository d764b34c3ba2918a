import { isSafetensorsDtype } from 'longspan';
isSafetensorsDtype('BF16'); // true
isSafetensorsDtype('bf16'); // false


export {};
