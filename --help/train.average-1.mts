import { averageCheckpoints } from 'longspan';
model.loadStateDict(await averageCheckpoints(['step-90.safetensors', 'step-100.safetensors']));


export {};
