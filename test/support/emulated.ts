/** Loaded before every test file that shall find device `cuda`, on the emulator, beside the CPU. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../root.js';

const folder = join(root, 'build', 'emulated');
// On a machine with a GPU the addon that was built for it is the one to test.
if (!process.env.LONGSPAN_PREBUILD && process.env.LONGSPAN_TEST_ADDON !== 'published') {
  if (!existsSync(join(folder, 'build', 'Release', 'longspan.node'))) {
    throw new Error("The addon with the emulator is missing. Run 'npm run build:emulated'");
  }
  process.env.LONGSPAN_PREBUILD = folder;
}
