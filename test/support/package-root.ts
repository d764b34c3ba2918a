import path from 'node:path';

/** Folder of the package under test; compiled tests lie deeper than their sources. */
export const packageRoot = path.dirname(require.resolve('longspan/package.json'));
