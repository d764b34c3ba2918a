import { saveModule } from 'longspan';
const model = new Linear(4, 2);
await saveModule('model.safetensors', model, { metadata: { step: '100' } });


export {};
