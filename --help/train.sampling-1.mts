import { Random, sampleToken } from 'longspan';
sampleToken([1, 5, 2], new Random(1), { temperature: 0 }); // 1


export {};
