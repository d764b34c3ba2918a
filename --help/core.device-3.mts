import { autoFallbackReason, device } from 'longspan';
if (device('auto').name === 'cpu') console.log(autoFallbackReason());


export {};
