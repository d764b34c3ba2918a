import { writeFileAtomic } from 'longspan';
await writeFileAtomic('state.json', JSON.stringify({ step: 100 }));


export {};
