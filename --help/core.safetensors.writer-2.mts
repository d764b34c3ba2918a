import { writeSafetensorsFile } from 'longspan';
await writeSafetensorsFile(
  'model.safetensors',
  [{ name: 'w', dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) }],
  { metadata: { format: 'pt' } },
);


export {};
