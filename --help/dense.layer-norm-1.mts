import { ones, zeros, layerNorm, normal } from 'longspan';
const y = layerNorm(normal([2, 8]), ones([8]), zeros([8]));
const [z, stream] = layerNorm(y, ones([8]), zeros([8]), { residual: normal([2, 8]) });


export {};
