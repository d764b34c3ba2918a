#!/usr/bin/env node
// Stands in for node-gyp when prebuildify builds (`--node-gyp` in the prebuildify script): straight
// to cmake-js, without node-gyp's Python and Node headers. Its arguments ask for nothing else.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { buildNative, defaultBinary, main } from './native-build.mjs';

main(() => {
  // prebuildify takes the first *.node and every *.so of this folder, so nothing old may lie there.
  rmSync(path.dirname(defaultBinary), { recursive: true, force: true });
  buildNative({ binary: defaultBinary });
});
