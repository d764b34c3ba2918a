export * from './autograd/index.js';
export { arange, full, ones, type TensorOptions, tensor, zeros } from './create.js';
export {
  autoFallbackReason,
  Device,
  device,
  type MemoryInfo,
  Stream,
  setNumThreads,
} from './device.js';
export type { DType, TensorData } from './dtype.js';
export * from './errors.js';
export { Generator, type GeneratorState, manualSeed } from './generator.js';
export { Graph } from './graph.js';
export { cast } from './methods.js';
export {
  type LoadTensorsOptions,
  loadTensors,
  type SaveOptions,
  saveTensors,
} from './safetensors-tensors.js';
export { keep, tidy } from './scope.js';
export { type Shape, Tensor } from './tensor.js';
export { permute, reshape, slice, split, squeeze, transpose, unsqueeze } from './views.js';
