import { saveCheckpoint } from 'longspan';
await saveCheckpoint('run/step-100.safetensors', model, { step: 100 });


export {};
