import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { root } from '../root.js';

// The emulator's own tests are C++: every wrapper of cuda/ptx.cuh, every check, planted bugs that
// must be found. One program runs them all; its lines become test cases here.
interface Outcome {
  group: string;
  title: string;
  milliseconds: number;
  error: string | null;
}

function runCases(): { outcomes: Outcome[]; problem: string } {
  const script = path.join(root, 'scripts', 'emulator-tests.mjs');
  const run = spawnSync(process.execPath, [script], { encoding: 'utf8', cwd: root });
  const outcomes = run.stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Outcome);
  return { outcomes, problem: run.status === 0 ? '' : run.stderr || `ended by ${run.signal}` };
}

const { outcomes, problem } = runCases();
const groups = [...new Set(outcomes.map((outcome) => outcome.group))];

describe('emulator', () => {
  test('compiles, and runs to its end', () => {
    expect(problem).toBe('');
    expect(groups).toEqual(
      expect.arrayContaining([
        'attention_sm80',
        'attention_sm90',
        'barriers',
        'bulk',
        'matrices',
        'memory',
        'order',
        'reductions',
        'runtime',
        'warp',
        'wgmma',
      ]),
    );
  });

  // Compared only where a CUDA toolkit is installed: its host functions are the reference.
  const compared = groups.includes('conversions') ? test : test.skip;
  compared('16-bit conversions equal those of an installed CUDA toolkit', () => {
    const conversions = outcomes.filter((outcome) => outcome.group === 'conversions');
    expect(conversions.map((outcome) => outcome.error)).toEqual([null, null]);
  });

  for (const group of groups) {
    describe(group, () => {
      for (const outcome of outcomes.filter((one) => one.group === group)) {
        test(outcome.title, () => {
          expect(outcome.error).toBeNull();
        });
      }
    });
  }
});
