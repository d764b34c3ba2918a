import { resolve } from 'node:path';

/** The repository root; tests run from `.test-build/test`. */
export const root = resolve(__dirname, '../..');
