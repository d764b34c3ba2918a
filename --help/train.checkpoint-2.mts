import { readCheckpointInfo } from 'longspan';
const { model, step } = await readCheckpointInfo('run/step-100.safetensors');


export {};
