import { keep, tidy, normal } from 'longspan';
const table = tidy(() => keep(normal([8, 8])));


export {};
