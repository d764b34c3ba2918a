// Builds the addon: `node scripts/build-native.mjs [FILE [CONFIG]]`. It is also the bridge from
// binding.gyp and prebuildify to cmake-js.
import path from 'node:path';
import { buildNative, defaultBinary, main } from './support/native-build.mjs';

const [binary = defaultBinary, config] = process.argv.slice(2);
main(() => buildNative({ binary: path.resolve(binary), config }));
