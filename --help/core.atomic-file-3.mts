import { writeFileAtomicSync } from 'longspan';
writeFileAtomicSync('state.json', JSON.stringify({ step: 100 }));


export {};
