/** The whole harness on tiny shapes: that every benchmark runs, and what it writes. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { readPeerRows, unmatched, withPeers } from '../../bench/harness/peers.js';
import { type BenchFile, type BenchRow, keyOf, merge } from '../../bench/harness/result.js';
import { exponent } from '../../bench/harness/statistics.js';
import { root } from '../root.js';
import { hasCuda, testDevices } from '../support/devices.js';
import { temporaryDirectory } from '../temporary.js';

const at = temporaryDirectory();
const gemm = { operator: 'matmul', shape: 'bf16 48 x 32 x 40' };
const peers = [
  { ...gemm, peer: 'slow', seconds: 4e-3, quartiles: [3e-3, 5e-3] },
  { ...gemm, peer: 'fast', seconds: 1e-3, quartiles: [1e-3, 2e-3] },
  { operator: 'matmul', shape: 'bf16 9 x 9 x 9', peer: 'lost', seconds: 1, quartiles: [1, 1] },
];

describe.each(testDevices())('on %s', (device) => {
  test('every benchmark runs', () => {
    fs.writeFileSync(at('peers.json'), JSON.stringify({ rows: peers }));
    const out = at(`${device}.json`);
    const program = join(root, '.test-build/bench/main.js');
    const args = ['--device', device, '--smoke', '--out', out, '--peer-rows', at('peers.json')];
    const run = spawnSync(process.execPath, [program, ...args], {
      encoding: 'utf8',
      env: { ...process.env },
    });
    expect(run.stderr).toBe('');
    expect(run.status).toBe(0);
    expect(run.stdout).toMatch(/no case for matmul \| bf16 9 x 9 x 9 \| gpu of lost/);
    const { rows, ceilings, figures, ...file } = JSON.parse(
      fs.readFileSync(out, 'utf8'),
    ) as BenchFile;
    expect(file.device).toMatch(device === 'cpu' ? /^cpu$/ : /^(emulated|cuda:\d+)$/);
    expect(new Set(rows.map(keyOf)).size).toBe(rows.length);
    const names = new Set(rows.map(({ operator }) => operator));
    for (const name of ['matmul', 'attention', 'attention + backward', 'attention call', 'softmax'])
      expect(names).toContain(name);
    for (const name of ['training step', 'generate', 'generate, replayed', 'AdamW step'])
      expect(names).toContain(name);
    const [rates] = Object.values(ceilings);
    for (const row of rows) {
      expect(row.seconds).toBeGreaterThan(0);
      if (device === 'cpu') expect(row.wallSeconds).toBeUndefined();
      const counted = row.flopsPerSecond ?? row.bytesPerSecond;
      if (counted === undefined) continue;
      expect(row.fractionOfCeiling).toBeGreaterThan(0);
      expect(rates?.[row.ceiling as string]).toBeGreaterThan(0);
    }
    const models = rows.filter(({ operator }) => /generate|training/.test(operator));
    expect(models).toHaveLength(device === 'cpu' ? 3 : 6);
    for (const row of models) expect(row.tokensPerSecond).toBeGreaterThan(0);
    const memory = rows.filter(({ peakBytes }) => peakBytes !== undefined);
    expect(memory.map(({ operator }) => operator)).toContain('attention, tiled');
    // At least the result and three gradients.
    for (const { peakBytes } of memory) expect(peakBytes).toBeGreaterThanOrEqual(4 * 16 * 64 * 2);
    const picture = fs.readFileSync(at(`${device}-attention-memory.svg`), 'utf8');
    expect(picture).toMatch(/^<svg.*Most memory of attention.*tiled.*naive/s);
    for (const name of ['sparse-time', 'sparse-memory']) {
      const growth = fs.readFileSync(at(`${device}-${name}.svg`), 'utf8');
      const exponents = '(exact|LSH|routing): N\\^-?\\d+\\.\\d\\d<.*';
      expect(growth).toMatch(new RegExp(`^<svg.*${exponents.repeat(3)}`, 's'));
      for (const way of ['exact', 'LSH', 'routing'])
        expect(figures?.[`exponent of N, ${name.slice(7)}, ${way}`]).toEqual(expect.any(Number));
    }
    for (const way of ['LSH', 'routing']) {
      const found = rows.filter(({ operator }) => operator === `neighbours, ${way}`);
      expect(found).toHaveLength(9);
      for (const { recall } of found) expect(recall).toBeGreaterThan(0);
      // More rounds, or a longer window, show more.
      const alike = found.filter(({ shape }) => shape.includes('cosine 0.5'));
      const shares = alike.map(({ recall = 0 }) => recall);
      expect(shares).toEqual([...shares].sort((a, b) => a - b));
      expect(shares[2]).toBeGreaterThan(shares[0] as number);
      const seen = fs.readFileSync(at(`${device}-${way.toLowerCase()}-recall.svg`), 'utf8');
      expect(seen).toMatch(/^<svg.*cosine 0\.9.*cosine 0\.7.*cosine 0\.5/s);
      expect(seen.match(/<circle/g)).toHaveLength(9);
    }
    const product = rows.find(({ shape }) => shape === gemm.shape);
    expect(product?.peer?.name).toBe('fast');
    expect(product?.peers?.map(({ name }) => name)).toEqual(['fast', 'slow']);
    // By events: never longer than the wall clock around them.
    if (device === 'cuda')
      expect(product?.wallSeconds).toBeGreaterThanOrEqual(product?.seconds ?? 1);
  });
});

if (hasCuda) {
  test('rows bound by memory are timed with a cold L2, others as ever', () => {
    const out = at('cold.json');
    const program = join(root, '.test-build/bench/main.js');
    const names = ['memory-bound', 'matmul'];
    const args = [...names, '--device', 'cuda', '--smoke', '--cold-l2', '--out', out];
    const run = spawnSync(process.execPath, [program, ...args], {
      encoding: 'utf8',
      env: { ...process.env },
    });
    expect(run.stderr).toBe('');
    const { rows } = JSON.parse(fs.readFileSync(out, 'utf8')) as BenchFile;
    const cold = rows.filter(({ shape }) => shape.endsWith(', cold L2'));
    expect(cold.length).toBeGreaterThan(0);
    for (const row of cold) {
      expect(row.seconds).toBeGreaterThan(0);
      expect(row.flopsPerSecond).toBeUndefined();
      expect(row.wallSeconds).toBeUndefined();
    }
    const products = rows.filter(({ operator }) => operator === 'matmul');
    expect(products.length).toBeGreaterThan(0);
    for (const row of products) expect(row.shape).not.toMatch(/cold/);
  });
}

const row = { ...gemm, threads: 0, seconds: 2e-3, quartiles: [1e-3, 4e-3], samples: [2e-3] };

test('peers of another program go with the rows of their operator and shape', () => {
  fs.writeFileSync(at('rows.json'), JSON.stringify({ rows: peers }));
  const read = readPeerRows(at('rows.json'));
  const found = withPeers(row as BenchRow, read);
  expect(found.peer).toEqual({ name: 'fast', seconds: 1e-3, ratio: 0.5, quartiles: [0.25, 2] });
  expect(withPeers({ ...row, shape: 'f32 1 x 1 x 1' } as BenchRow, read).peer).toBeUndefined();
  expect(unmatched([row as BenchRow], read)).toHaveLength(1);
});

test.each([
  ['[]', /no list 'rows'/],
  ['{"rows":[{"operator":"a","shape":"b"}]}', /'peer' of row 0/],
  ['{"rows":[{"operator":"a","shape":"b","peer":"c","seconds":0}]}', /'seconds'/],
])('other files are refused: %s', (text, message) => {
  fs.writeFileSync(at('bad.json'), text);
  expect(() => readPeerRows(at('bad.json'))).toThrow(message);
});

test('exponents of growth', () => {
  const n = [16, 32, 128];
  expect(
    exponent(
      n,
      n.map((x) => 3 * x ** 1.5),
    ),
  ).toBeCloseTo(1.5, 12);
  expect(exponent(n, [7, 7, 7])).toBeCloseTo(0, 12);
});

test('merged results keep figures of earlier ones', () => {
  const machine = { cpu: 'c', threads: 2, cpuLevel: 'v3' };
  const file = (figures?: Record<string, number>) =>
    ({ machine, device: 'cpu', ceilings: {}, rows: [], figures }) as unknown as BenchFile;
  expect(merge(file({ a: 1, b: 1 }), file({ b: 2 })).figures).toEqual({ a: 1, b: 2 });
  expect(merge(file({ a: 1 }), file()).figures).toEqual({ a: 1 });
});

test('results of different devices are not merged', () => {
  const machine = { cpu: 'c', threads: 2, cpuLevel: 'v3' };
  const file = (device: string) =>
    ({ machine, device, ceilings: {}, rows: [row] }) as unknown as BenchFile;
  expect(merge(file('cuda:0'), file('cuda:0')).rows).toHaveLength(1);
  expect(() => merge(file('cpu'), file('cuda:0'))).toThrow(/cannot go with/);
});
