// Builds the addon that the tests use: the ordinary one plus the CUDA backend on the emulator. It shares
// every object file with the ordinary addon but those of the backend. `node-gyp-build` finds it through
// LONGSPAN_PREBUILD, which names the folder.
import path from 'node:path';
import { buildNative, buildOptions, isFresh, main, root } from './support/native-build.mjs';

const env = { ...process.env, LONGSPAN_CUDA: 'emulated' };
const binary = path.join(root, 'build', 'emulated', 'build', 'Release', 'longspan.node');
main(() => {
  if (!isFresh(binary, buildOptions(env))) buildNative({ binary, env });
});
