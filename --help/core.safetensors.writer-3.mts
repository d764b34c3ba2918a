import { writeSafetensorsFileSync } from 'longspan';
writeSafetensorsFileSync('model.safetensors', [
  { name: 'w', dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) },
]);


export {};
