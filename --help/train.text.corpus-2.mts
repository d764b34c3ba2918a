import { concatenate } from 'longspan';
const files = [
  { name: 'a', bytes: Buffer.from('to be') },
  { name: 'b', bytes: Buffer.from(' or not') },
];
concatenate(files).length; // 12


export {};
