import { ones, saveTensors } from 'longspan';
import { tmpdir } from 'node:os';
await saveTensors(`${tmpdir()}/weights.safetensors`, { w: ones([2, 3]) });


export {};
