import { manualSeed } from 'longspan';
manualSeed(1234);


export {};
