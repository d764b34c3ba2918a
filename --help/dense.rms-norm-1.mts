import { ones, normal, rmsNorm } from 'longspan';
const [y, stream] = rmsNorm(normal([2, 8]), ones([8]), { residual: normal([2, 8]) });


export {};
