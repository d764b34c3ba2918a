import { parseHeader } from 'longspan';
const json = new TextEncoder().encode('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}');
parseHeader(json, 8).tensors.get('w')?.shape; // [2]


export {};
