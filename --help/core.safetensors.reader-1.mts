import { ones, saveTensors, readSafetensorsFile, buffer } from 'longspan';
await saveTensors('model.safetensors', { weight: ones([2, 3]) });
await using file = await readSafetensorsFile('model.safetensors');
const bytes = await file.read('weight');
const weight = new Float32Array(bytes.buffer);


export {};
