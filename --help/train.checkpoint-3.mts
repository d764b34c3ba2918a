import { loadCheckpoint } from 'longspan';
const info = await loadCheckpoint('run/step-100.safetensors', model);


export {};
