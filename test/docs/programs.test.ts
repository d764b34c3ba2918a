/** The programs of examples/ run from end to end, on tasks too small to be learned. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from '../root.js';
import { testDevices } from '../support/devices.js';
import { temporaryDirectory } from '../temporary.js';

const at = temporaryDirectory();

function run(name: string, options: string) {
  const command = [path.join(root, 'examples', name, 'main.mjs'), ...options.split(' ')];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    cwd: at(),
    encoding: 'utf8',
    env: { ...process.env },
  });
  return { status, stdout, stderr };
}

describe.each(testDevices())('on %s', (device) => {
  test('routing-recall', () => {
    const tiny = '--length 128 --keys 8 --clusters 4 --window 16 --batch 2 --unseen 2';
    const out = at(`${device}.svg`);
    const result = run('routing-recall', `${tiny} --steps 4 --device ${device} --out ${out}`);
    expect(result).toMatchObject({ status: 0, stderr: '' });
    expect(result.stdout).toMatch(/local, step 4: loss \d.*routed, step 4: loss \d/s);
    expect(result.stdout).toMatch(/\nlocal +\d+\.\d % .*\nrouted +\d+\.\d % .*\nchance +6\.3 %\n/);
    const [local, routed] = [...result.stdout.matchAll(/ (\d+\.\d) k/g)].map(([, k]) => Number(k));
    expect(local).toBeLessThanOrEqual(routed as number);
    expect(local).toBeGreaterThan(0.8 * (routed as number));
    const picture = readFileSync(out, 'utf8');
    expect(picture).toMatch(/^<svg.*Clusters in use.*head 1.*head 2.*all 4 alike/s);
    // A point for each of the 4 steps and both heads.
    expect(picture.match(/<circle/g)).toHaveLength(8);
  });
});

test('reformer-duplication', () => {
  const tiny = '--length 32 --dim 16 --heads 2 --chunk 8 --buckets 4 --batch 2';
  const rounds = '--rounds 1,2 --evaluated 1,4';
  const result = run('reformer-duplication', `${tiny} ${rounds} --steps 2`);
  expect(result).toMatchObject({ status: 0, stderr: '' });
  expect(result.stdout).toMatch(/trained with +eval 1 +eval 4\n/);
  for (const n of [1, 2])
    expect(result.stdout).toMatch(new RegExp(`\\n +${n} rounds +\\d+\\.\\d % +\\d+\\.\\d %\\n`));
});

test('long-context', () => {
  const out = at('long.svg');
  const result = run('long-context', `--longest 512 --steps 1 --out ${out}`);
  expect(result).toMatchObject({ status: 0, stderr: '' });
  expect(readFileSync(out, 'utf8')).toMatch(/^<svg.*tiled.*naive/s);
});

test('a length at which local heads could see the pairs is refused', () => {
  const { status, stderr } = run('routing-recall', '--length 512 --keys 200');
  expect(status).toBe(2);
  expect(stderr).toMatch(/--length is 512: use 592 or more/);
});
