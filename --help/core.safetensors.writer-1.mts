import { SafetensorsWriter } from 'longspan';
await using writer = new SafetensorsWriter('model.safetensors', [
  { name: 'w', dtype: 'F32', shape: [2, 3] },
]);
await writer.write('w', new Float32Array(6));
await writer.commit();


export {};
