import { sinusoidalPositions } from 'longspan';
const table = sinusoidalPositions(1024, 512);


export {};
