import { ones, zeros, loadTensors, saveTensors } from 'longspan';
import { tmpdir } from 'node:os';
const path = `${tmpdir()}/two.safetensors`;
await saveTensors(path, { w: ones([2, 3]), b: zeros([3]) });
const { w } = await loadTensors(path, { names: ['w'] });


export {};
