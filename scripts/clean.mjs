// `node scripts/clean.mjs FOLDER...`: removes build outputs. tsc never deletes the output of a source
// file that is gone; a removed test would go on running and a removed module would be published.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { root } from './support/native-build.mjs';

const OUTPUTS = ['dist', '.test-build', 'prebuilds', 'build', '.cmake'];

for (const folder of process.argv.slice(2)) {
  if (!OUTPUTS.includes(folder)) throw new Error(`${folder} is not a build output`);
  rmSync(path.join(root, folder), { recursive: true, force: true });
}
