export {
  bitsPerElement,
  isSafetensorsDtype,
  type SafetensorsDtype,
  safetensorsDtypes,
} from './dtypes.js';
export { parseHeader, type SafetensorsHeader, type SafetensorsInfo } from './header.js';
export { readSafetensorsFile, readSafetensorsFileSync, SafetensorsFile } from './reader.js';
export {
  type SafetensorsEntry,
  type SafetensorsMetadata,
  type SafetensorsSpec,
  type SafetensorsSyncEntry,
  type SafetensorsWriteOptions,
  SafetensorsWriter,
  writeSafetensorsFile,
  writeSafetensorsFileSync,
} from './writer.js';
