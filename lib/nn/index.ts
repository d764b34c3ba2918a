export { type LoadModuleOptions, loadModule, saveModule } from './files.js';
export {
  type LoadResult,
  type LoadStateOptions,
  Module,
  type StateDict,
} from './module.js';
export { buffer, type Parameter, parameter } from './parameter.js';
