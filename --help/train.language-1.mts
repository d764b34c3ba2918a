import { loadTextData } from 'longspan';
const { train, validation } = await loadTextData(['docs'], { extensions: ['.md'] });


export {};
