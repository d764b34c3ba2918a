import { splitCorpus } from 'longspan';
const files = ['a.txt', 'b.txt', 'c.txt'].map((name) => ({ name, bytes: Buffer.from(name) }));
const { train, validation } = splitCorpus(files, { validation: 0.3, seed: 1 });


export {};
