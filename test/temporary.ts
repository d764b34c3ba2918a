import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A fresh directory for one test file, removed after its tests. Call it inside `describe`. */
export function temporaryDirectory(): (name?: string) => string {
  let directory = '';
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'longspan-test-'));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return (name = '') => join(directory, name);
}
