import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { device, tensor, writeSafetensorsFileSync } from 'longspan';
import { type GoldenTensorInfo, listGoldens, type Precision, readGolden } from '../goldens.js';
import { root } from '../root.js';
import { temporaryDirectory } from '../temporary.js';
import { type Adapter, type Computed, notOffered } from './adapter.js';
import { deviation, naiveTolerance } from './compare.js';
import { runCase } from './runner.js';

const path = temporaryDirectory();

type Entry = Omit<GoldenTensorInfo, 'dtype'> & { data: number[] };

/** Writes the case `id` into a folder of its own and returns the folder. */
function write(id: string, tensors: Record<string, Entry>, fields: object = {}): string {
  const folder = path(`case-${id}`);
  mkdirSync(folder, { recursive: true });
  const entries: Record<string, object> = {};
  for (const [name, { data: _, ...info }] of Object.entries(tensors)) {
    entries[name] = { ...info, dtype: 'F64' };
  }
  const manifest = { format: 2, id, mechanism: 'double', params: {}, conventions: [] };
  const text = JSON.stringify({ ...manifest, tensors: entries, ...fields });
  writeFileSync(join(folder, `${id}.json`), text);
  writeSafetensorsFileSync(
    join(folder, `${id}.safetensors`),
    Object.entries(tensors).map(([name, { shape, data }]) => ({
      ...{ name, dtype: 'F64' as const, shape, data: Float64Array.from(data) },
    })),
  );
  return folder;
}

const x: Entry = { role: 'input', shape: [2], data: [1, 2] };
const y: Entry = {
  ...{ role: 'output', shape: [2], data: [2, 4] },
  ...{ compare: 'atol', atol: { f64: 1e-9, f32: 1e-6 } },
};

/** An adapter of the mechanism `double` that gives these results. */
const giving = (computed: Computed | ReturnType<typeof notOffered>): Adapter => ({
  mechanism: 'double',
  run: () => computed,
});

async function run(
  folder: string,
  adapter: Adapter,
  options: { dtype?: Precision; only?: string[] } = {},
) {
  const [id] = listGoldens(folder);
  const rest = { dtype: 'f32' as Precision, device: device('cpu'), adapters: [adapter] };
  const report = await runCase(folder, id, { ...rest, ...options });
  if (!report) throw new Error('no report');
  return report;
}

describe('a case', () => {
  test('passes within the tolerance of the working precision, and tells the worst error', async () => {
    const folder = write('good', { x, y });
    const report = await run(folder, giving({ y: tensor([2, 4 + 5e-7], { dtype: 'f64' }) }));
    expect(report).toMatchObject({ verdict: 'passed', compared: 1, failures: [], notOffered: {} });
    expect(report.worst).toMatchObject({ tensor: 'y', index: [1] });
    expect(report.worst?.ratio).toBeCloseTo(0.5, 5);
    const strict = await run(folder, giving({ y: [2, 4 + 5e-7] }), { dtype: 'f64' });
    expect(strict.verdict).toBe('failed');
  });

  test.each<[string, Computed, RegExp]>([
    ['a wrong value', { y: [2, 5] }, /^y\[1\] is 5 instead of 4 \(tolerance 0.000001\)$/],
    ['NaN', { y: [Number.NaN, 4] }, /^y\[0\] is NaN instead of 2/],
    ['a missing tensor', { z: [2, 4] }, /^y was not computed$/],
    ['a wrong shape', { y: tensor([[2, 4]]) }, /^y is \[1, 2\] instead of \[2\]$/],
    ['too few values', { y: [2] }, /^y is \[1\] instead of \[2\]$/],
  ])('fails for %s', async (_, computed, message) => {
    const { verdict, failures } = await run(write('bad', { x, y }), giving(computed));
    expect(verdict).toBe('failed');
    expect(failures).toEqual([expect.stringMatching(message)]);
  });

  test('is skipped with a reason when its mechanism or variant is not offered', async () => {
    const folder = write('other', { x, y }, { mechanism: 'triple' });
    expect(await run(folder, giving({ y: [2, 4] }))).toMatchObject({
      verdict: 'skipped',
      notOffered: { other: 'triple is not part of the package yet' },
    });
    expect(await run(write('variant', { x, y }), giving(notOffered('too old')))).toMatchObject({
      ...{ verdict: 'skipped', notOffered: { variant: 'too old' }, compared: 0 },
    });
  });

  test('names the tensors that are not offered beside those that pass', async () => {
    const folder = write('part', { x, y, z: y });
    expect(await run(folder, giving({ y: [2, 4], z: notOffered('never stored') }))).toMatchObject({
      ...{ verdict: 'passed', compared: 1, notOffered: { z: 'never stored' } },
    });
    const first = { values: tensor([2, 9]), offers: (i: number) => i === 0, otherwise: 'padding' };
    expect(await run(folder, giving({ y: [2, 4], z: first }))).toMatchObject({
      ...{ verdict: 'passed', compared: 2, notOffered: { 'z in part': 'padding' } },
    });
    const second = { ...first, offers: (i: number) => i === 1 };
    expect((await run(folder, giving({ y: [2, 4], z: second }))).verdict).toBe('failed');
    const none = await run(folder, giving({ y: notOffered('a'), z: notOffered('b') }));
    expect(none.verdict).toBe('skipped');
  });

  test('fails with the message of an adapter that throws, and leaves out what is not asked for', async () => {
    const folder = write('throws', { x, y });
    const throwing: Adapter = {
      mechanism: 'double',
      run: () => Promise.reject(new Error('no such operator')),
    };
    expect((await run(folder, throwing)).failures).toEqual(['no such operator']);
    const options = { dtype: 'f32' as const, device: device('cpu'), adapters: [throwing] };
    expect(await runCase(folder, 'throws', { ...options, only: ['single'] })).toBeUndefined();
  });

  test('gives its inputs to the adapter in the working precision', async () => {
    const doubling: Adapter = {
      mechanism: 'double',
      run: (inputs) => {
        expect(inputs.tensor('x').dtype).toBe('f16');
        return { y: inputs.host('x').data.map((v) => 2 * v) };
      },
    };
    const tolerant = { ...y, atol: { f16: 0 } };
    const report = await run(write('inputs', { x, y: tolerant }), doubling, { dtype: 'f16' });
    expect(report).toMatchObject({ verdict: 'passed', failures: [] });
  });

  test('without a 16-bit tolerance is judged by the naive formula, for single operators only', async () => {
    const third: Entry = { role: 'input', shape: [1], data: [1 / 3] };
    const expected: Entry = { ...y, shape: [1], data: [2 / 3] };
    const folder = write('narrow', { x: third, y: expected });
    const off = (error: number, single: boolean): Adapter => ({
      ...{ mechanism: 'double', single },
      run: (inputs) => {
        if (inputs.dtype === 'f64') return { y: [2 * (inputs.tensor('x').itemSync() as number)] };
        return { y: [2 / 3 + error] };
      },
    });
    const bf16 = { dtype: 'bf16' as const };
    expect((await run(folder, off(2e-3, true), bf16)).verdict).toBe('passed');
    expect((await run(folder, off(2e-2, true), bf16)).verdict).toBe('failed');
    expect(await run(folder, off(0, false), bf16)).toMatchObject({
      ...{ verdict: 'skipped', notOffered: { y: 'the manifest gives no tolerance for bf16' } },
    });
  });
});

describe('deviation', () => {
  const info: GoldenTensorInfo = {
    ...{ role: 'output', dtype: 'F64', shape: [2, 2] },
    ...{ compare: 'atol', atol: { f32: 1, f64: 0.1 } },
  };
  const expected = Float64Array.of(0, 10, 200, 3000);

  test('exceptions hold for their rows and magnitudes, in the precisions they name', () => {
    const exceptions = [
      { rows: [[1]], atol: { f32: 10 } },
      { above: 1000, atol: { f32: 100 } },
    ];
    const at = (actual: number[], dtype: Precision = 'f32') =>
      deviation(actual, expected, { ...info, exceptions }, dtype);
    expect(at([0, 11, 210, 3100])).toMatchObject({ ratio: 1, index: [0, 1] });
    expect(at([0, 10, 220, 3000])).toMatchObject({ ratio: 2, index: [1, 0], tolerance: 10 });
    expect(at([0, 10, 201, 3000], 'f64').ratio).toBeCloseTo(10, 9);
    const element = { ...info, exceptions: [{ rows: [[1, 0]], atol: { f32: 10 } }] };
    expect(deviation([0, 10, 200, 3002], expected, element, 'f32').ratio).toBe(2);
  });

  test('integers are exact; infinities and NaN agree with themselves only', () => {
    const exact = { ...info, compare: 'exact' as const };
    expect(deviation([0, 10, 200, 3000], expected, exact, 'bf16').ratio).toBe(0);
    expect(deviation([0, 10, 200, 3001], expected, exact, 'bf16').ratio).toBe(Infinity);
    const odd = Float64Array.of(-Infinity, Number.NaN, Infinity, 0);
    expect(deviation([-Infinity, Number.NaN, Infinity, 0], odd, info, 'f32').ratio).toBe(0);
    expect(deviation([-1e30, Number.NaN, Infinity, 0], odd, info, 'f32').ratio).toBe(Infinity);
    expect(deviation([-Infinity, Number.NaN, -Infinity, 0], odd, info, 'f32').ratio).toBe(Infinity);
  });

  test('the naive formula allows twice its error, thrice for gradients, half a unit at least', () => {
    const one = { ...info, shape: [1] };
    const grad = { ...one, role: 'gradient' as const };
    expect(naiveTolerance([1.25], Float64Array.of(1), one, 'bf16')).toBe(0.5);
    expect(naiveTolerance([1.25], Float64Array.of(1), grad, 'bf16')).toBe(0.75);
    expect(naiveTolerance([1], Float64Array.of(1), one, 'bf16')).toBe(2 ** -8);
  });
});

describe('a folder that is none, or holds what is no case', () => {
  test('says so', () => {
    expect(() => listGoldens(path('nowhere'))).toThrow(/nowhere does not exist: give a folder/);
    writeFileSync(path('file'), '');
    expect(() => listGoldens(path('file'))).toThrow(/file is no folder/);
    mkdirSync(path('empty'));
    expect(() => listGoldens(path('empty'))).toThrow(/empty holds no golden case/);
  });

  test.each<[string, string, RegExp]>([
    ['text', 'no json', /case.json: .*JSON/],
    ['a list', '[]', /it is no JSON object/],
    ['another format', '{"format":3}', /format 3 is not known/],
    ['another name', '{"format":2,"id":"../other"}', /its id is "..\/other", not the file's name/],
    ['no mechanism', '{"format":2,"id":"case"}', /names no mechanism/],
    ['a tensor without role', manifestOf({ y: {} }), /tensor y has the role undefined/],
    ['a negative shape', manifestOf({ y: { ...y, shape: [-1] } }), /tensor y has the shape \[-1\]/],
    ['no comparison', manifestOf({ y: { ...y, compare: 'all' } }), /y has the comparison "all"/],
    ['a tolerance below 0', manifestOf({ y: { ...y, atol: { f32: -1 } } }), /y has the atol/],
    [
      'rows out of form',
      manifestOf({ y: { ...y, exceptions: [{ rows: 1 }] } }),
      /y has exceptions/,
    ],
    ['a lost tensor', manifestOf({ z: y }), /lacks the tensor z/],
    [
      'another shape',
      manifestOf({ y: { ...y, shape: [3] } }),
      /y is F64\[2\] in the file, F64\[3\] in/,
    ],
  ])('a manifest with %s fails with its file and fault', async (_, text, message) => {
    const folder = write('case', { x, y });
    writeFileSync(join(folder, 'case.json'), text);
    const { verdict, failures } = await run(folder, giving({ y: [2, 4] }));
    expect(verdict).toBe('failed');
    expect(failures).toEqual([expect.stringMatching(message)]);
  });

  test('truncated and missing tensors fail', async () => {
    const folder = write('cut', { x, y });
    const file = join(folder, 'cut.safetensors');
    writeFileSync(file, readFileSync(file).subarray(0, -8));
    expect((await run(folder, giving({}))).failures[0]).toMatch(/cut.safetensors/);
    const alone = path('alone');
    mkdirSync(alone);
    copyFileSync(file, join(alone, 'cut.safetensors'));
    expect((await run(alone, giving({}))).failures).toEqual([
      expect.stringMatching(/cut.json is missing/),
    ]);
    expect(() => readGolden(folder, '../cut')).toThrow(/no case's name/);
  });
});

function manifestOf(tensors: Record<string, object>): string {
  const entries = Object.entries(tensors).map(([name, info]) => [name, { dtype: 'F64', ...info }]);
  const fields = { format: 2, id: 'case', mechanism: 'double', params: {}, conventions: [] };
  return JSON.stringify({ ...fields, tensors: Object.fromEntries(entries) });
}

describe('the command', () => {
  function goldens(...options: string[]) {
    const script = join(root, '.test-build/test/goldens/run.js');
    const result = spawnSync(process.execPath, [script, ...options], { encoding: 'utf8' });
    return { status: result.status, out: result.stdout, err: result.stderr };
  }
  const models = join(root, 'test/goldens/models');
  const schedule = 'sinusoidal_positions_noam_schedule';

  test('prints a row for each case, sums up and writes the reports', () => {
    const folder = write('unknown', { x, y });
    const json = path('reports.json');
    const options = ['--dtype', 'f64', '--json', json, '--mechanism', `${schedule},double`];
    const { status, out, err } = goldens(models, folder, ...options);
    expect({ status, err }).toEqual({ status: 0, err: '' });
    expect(out).toMatch(/^positions_noam_d32 +sinusoidal\w+ +<0.001 out.\S+ +passed$/m);
    expect(out).toMatch(/^unknown +double +- +skipped\n +not offered: double is not part/m);
    expect(out).toMatch(/\n1 passed, 0 failed, 1 skipped\n$/);
    const reports = JSON.parse(readFileSync(json, 'utf8'));
    expect(reports).toMatchObject({
      dtype: 'f64',
      device: 'cpu',
      passed: 1,
      failed: 0,
      skipped: 1,
    });
    expect(reports.cases.map(({ id }: { id: string }) => id)).toEqual([
      'positions_noam_d32',
      'unknown',
    ]);
  });

  test('exits with 1 when a case fails, and for what it cannot do', () => {
    const folder = write('broken', { x, y });
    writeFileSync(join(folder, 'broken.json'), '{');
    const broken = goldens(folder);
    expect(broken.status).toBe(1);
    expect(broken.out).toMatch(/^broken +\? +- +failed\n +\S+broken.json: /m);
    expect(broken.out).toMatch(/\n0 passed, 1 failed, 0 skipped\n$/);
    for (const [options, message] of [
      [[path('nowhere')], /nowhere does not exist/],
      [['--dtype', 'f8'], /--dtype is 'f8': use f32, f64, bf16, f16/],
      [['--device', 'tpu'], /'name' is 'tpu'/],
      [['--mechanism', 'magic'], /no case of the mechanism 'magic'/],
      [['--verbose'], /Unknown option '--verbose'/],
    ] as const) {
      const { status, err } = goldens(...options);
      expect({ status, err }).toEqual({ status: 1, err: expect.stringMatching(message) });
    }
  });
});

test('every case of the repository can be read', () => {
  for (const folder of ['attention', 'models']) {
    const directory = join(root, 'test/goldens', folder);
    for (const id of listGoldens(directory)) readGolden(directory, id);
  }
});
