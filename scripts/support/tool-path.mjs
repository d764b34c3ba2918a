// A PATH from which tools are missing, to try the package as it meets other machines.
import { accessSync, constants, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import path from 'node:path';

function executables(folder) {
  try {
    return readdirSync(folder).map((name) => path.join(folder, name));
  } catch {
    return []; // a PATH entry need not exist
  }
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/**
 * Fills `folder` with links to the programs on PATH whose names `keep` accepts.
 * @returns the folder, to be used as PATH
 */
export function toolPath(folder, keep) {
  mkdirSync(folder, { recursive: true });
  const seen = new Set();
  for (const file of (process.env.PATH ?? '').split(path.delimiter).flatMap(executables)) {
    const name = path.basename(file);
    if (seen.has(name) || !keep(name) || !isExecutable(file)) continue;
    seen.add(name); // the first on PATH wins, as in a shell
    symlinkSync(file, path.join(folder, name));
  }
  return folder;
}

/** Names of compilers and build tools: what a machine that only runs programs lacks. */
export const isBuildTool = (name) =>
  /^(.*-)?(g\+\+|gcc|c\+\+|cc|clang|clang\+\+|cpp|c89-gcc|c99-gcc|ld|as|nvcc)([-.][\w.]+)?$/.test(
    name,
  ) || /^(cmake|ctest|cpack|ccache|make|gmake|ninja|samu|node-gyp|python[\d.]*)$/.test(name);
