import { BatchSampler } from 'longspan';
const data = Buffer.from('to be, or not to be: that is the question');
const sampler = new BatchSampler({ data, batch: 4, length: 8, seed: 1 });
const { inputs, targets } = sampler.next();
const saved = JSON.stringify(sampler.state());
sampler.restore(JSON.parse(saved));


export {};
