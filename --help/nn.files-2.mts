import { loadModule, saveModule } from 'longspan';
await saveModule('model.safetensors', new Linear(4, 2));
const model = new Linear(4, 2);
await loadModule('model.safetensors', model);


export {};
