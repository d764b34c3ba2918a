import { ones, saveTensors, readSafetensorsFile } from 'longspan';
await saveTensors('model.safetensors', { weight: ones([2, 3]) });
await using file = await readSafetensorsFile('model.safetensors');
for (const [name, { dtype, shape }] of file.tensors) console.log(name, dtype, shape);


export {};
