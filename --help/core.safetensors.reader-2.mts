import { ones, saveTensors, readSafetensorsFileSync } from 'longspan';
await saveTensors('model.safetensors', { weight: ones([2, 3]) });
using file = readSafetensorsFileSync('model.safetensors');
const bytes = file.readSync('weight');


export {};
