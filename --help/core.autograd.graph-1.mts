import { isRecording, noGrad } from 'longspan';
isRecording(); // true
noGrad(() => isRecording()); // false


export {};
