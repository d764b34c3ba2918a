/** Third-party results, as `npm run goldens` runs them. */
import { join } from 'node:path';
import { device } from 'longspan';
import { adapters } from './goldens/adapters/index.js';
import { type Report, runCase } from './goldens/runner.js';
import { listGoldens, type Precision } from './goldens.js';
import { root } from './root.js';
import { hasCuda, testDevices } from './support/devices.js';

/** Systems that are not part of the package yet. */
const absent = [
  'favor_plus_softmax',
  'favor_plus_softmax_hyperbolic',
  'favor_plus_projection',
  'favor_plus_relu',
  'linear_attention_elu1',
  'linear_attention_softmax_maps',
  'mgk',
  'mlk',
  'momentum_adaptive',
  'momentum_linear_attention',
  'momentum_residual_connection',
  'nprf_rpe',
  'favor_rpe_unnormalised',
  'toeplitz_fft',
  'deq',
  'dss',
  'causal_fft_convolution',
  'gss',
  'perceiver_ar',
  's4',
  's4d',
];

/** Cases, and tensors of cases, that an adapter declines. */
const declined = [
  'exact_everything lse in part',
  'exact_padding_causal_cross lse in part',
  'reformer_lsh_padded97 lse_per_hash in part',
];

const folders = ['attention', 'models'].map((name) => join(root, 'test/goldens', name));

async function runAll(dtype: Precision, on = 'cpu'): Promise<Report[]> {
  const reports: Report[] = [];
  for (const folder of folders) {
    for (const id of listGoldens(folder)) {
      const report = await runCase(folder, id, { dtype, device: device(on), adapters });
      if (report) reports.push(report);
    }
  }
  return reports;
}

const runs: [string, Precision][] = [
  ['cpu', 'f32'],
  ['cpu', 'f64'],
];
if (hasCuda) runs.push(['cuda', 'f32']);

describe.each(runs)('golden cases on %s in %s', (on, dtype) => {
  let reports: Report[] = [];
  beforeAll(async () => {
    reports = await runAll(dtype, on);
  });

  test('what is offered agrees', () => {
    const failed = reports.filter(({ verdict }) => verdict === 'failed');
    expect(failed.map(({ id, failures }) => ({ id, failures }))).toEqual([]);
    expect(reports).toHaveLength(176);
    const offered = new Set(adapters.map(({ mechanism }) => mechanism));
    const passed = reports.filter(({ verdict }) => verdict === 'passed');
    expect(new Set(passed.map(({ mechanism }) => mechanism))).toEqual(offered);
  });

  test('what is not offered is what is listed here', () => {
    const missing = new Set<string>();
    const parts: string[] = [];
    for (const { id, mechanism, notOffered } of reports) {
      for (const [name, reason] of Object.entries(notOffered)) {
        if (/not part of the package yet/.test(reason)) missing.add(mechanism);
        else parts.push(name === id ? id : `${id} ${name}`);
      }
    }
    expect([...missing].sort()).toEqual([...absent].sort());
    expect(parts.sort()).toEqual([...declined].sort());
  });
});

// Where a manifest has no tolerance: at most 2x the naive formula's error, 3x for gradients.
const low: [string, Precision][] = testDevices().flatMap((on) => [
  [on, 'bf16'],
  [on, 'f16'],
]);

test.each(low)('no golden case fails on %s in %s', async (on, dtype) => {
  const reports = await runAll(dtype, on);
  const failed = reports.filter(({ verdict }) => verdict === 'failed');
  expect(failed.map(({ id, failures }) => ({ id, failures }))).toEqual([]);
  expect(reports.filter(({ verdict }) => verdict === 'passed')).toHaveLength(47);
});

test('a mechanism has one adapter', () => {
  const names = adapters.map(({ mechanism }) => mechanism);
  expect(new Set(names).size).toBe(names.length);
});
