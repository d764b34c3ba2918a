import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { root } from '../root.js';

// The kernels of these operators have C++ programs of their own, which go through more shapes, schedules
// and modes of asynchrony than the operators' tests on a device can.
test.each(['matmul', 'attention', 'sorted'])(
  'kernels of %s over shapes and schedules of the emulator',
  (name) => {
    const script = path.join(root, 'scripts', 'kernel-tests.mjs');
    const run = spawnSync(process.execPath, [script, name], { encoding: 'utf8', cwd: root });
    expect({ status: run.status, stderr: run.stderr }).toEqual({ status: 0, stderr: '' });
    expect(run.stdout).toMatch(/^\w+: 0 (of [1-9]\d* cases failed|failures, [1-9]\d* launches)$/m);
  },
  900_000,
);
