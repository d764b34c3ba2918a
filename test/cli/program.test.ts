import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describeFailure } from '#lib/cli/exit';
import { decimal, deviceName, duration, integer } from '#lib/cli/values';
import { root } from '../root.js';
import { temporaryDirectory } from '../temporary.js';
import { longspan } from './run.js';

describe('help', () => {
  test('lists the commands, with examples and exit codes', () => {
    const { code, out } = longspan(['--help']);
    expect(code).toBe(0);
    for (const word of ['doctor', 'bench', 'Examples:', 'Exit codes']) expect(out).toContain(word);
  });

  test.each(['doctor', 'bench'])('%s --help has examples', (command) => {
    const { code, out } = longspan([command, '--help']);
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`Usage: longspan ${command}`));
    expect(out).toMatch(/Examples:\n {2}\S/);
  });

  test('the version is that of the package', () => {
    expect(longspan(['--version']).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

test.each([
  [['doctr'], /unknown command 'doctr'.*Did you mean doctor/s],
  [['doctor', '--jsn'], /unknown option '--jsn'.*Did you mean --json/s],
  [['doctor', 'now'], /too many arguments/],
  [[], /Usage/],
])('%p is a usage error', (args, message) => {
  const { code, out, err } = longspan(args);
  expect(code).toBe(2);
  expect(out).toBe('');
  expect(err).toMatch(message);
});

describe('doctor', () => {
  test('tells what is there and what is missing', () => {
    const { code, out } = longspan(['doctor'], { env: { CUDA_VISIBLE_DEVICES: '' } });
    expect(code).toBe(0);
    expect(out).toMatch(/ok {2}cpu level/);
    expect(out).toMatch(/-- {2}cuda .*cannot be used/);
  });

  test('--json is one object', () => {
    const { code, out } = longspan(['doctor', '--json'], {
      env: { LONGSPAN_NUM_THREADS: '1', CUDA_VISIBLE_DEVICES: '' },
    });
    expect(code).toBe(0);
    const report = JSON.parse(out);
    expect(report).toMatchObject({
      node: process.versions.node,
      platform: `${process.platform}-${process.arch}`,
      addon: { loaded: true, threads: 1, cpuLevel: expect.stringMatching(/^(portable|v3|v4)$/) },
      cuda: { usable: false, missing: expect.any(String) },
      environment: { LONGSPAN_NUM_THREADS: '1' },
    });
    expect(report.memory.total).toBeGreaterThan(0);
  });
});

describe('without an addon', () => {
  const at = temporaryDirectory();

  test('doctor says so, with the cure, and help works', () => {
    const home = at('package');
    mkdirSync(home);
    cpSync(join(root, 'dist'), join(home, 'dist'), { recursive: true });
    copyFileSync(join(root, 'package.json'), join(home, 'package.json'));
    for (const name of ['commander', 'node-gyp-build', 'cli-progress']) {
      const folder = join('node_modules', name);
      cpSync(join(root, folder), join(home, folder), { recursive: true });
    }
    const run = (...args: string[]) =>
      spawnSync(process.execPath, [join(home, 'dist/cli/main.js'), ...args], { encoding: 'utf8' });
    const doctor = run('doctor', '--json');
    expect(doctor.status).toBe(1);
    expect(JSON.parse(doctor.stdout).addon).toMatchObject({
      loaded: false,
      error: expect.stringMatching(/there is no native addon/),
    });
    expect(run('--help').status).toBe(0);
  });
});

describe('values', () => {
  test.each([
    ['12', 12],
    ['1_000', 1000],
    ['4k', 4000],
    ['-3', -3],
  ])('integer %p', (text, value) => expect(integer()(text)).toBe(value));
  test.each(['', '1.5', 'x', '1e3', '99999999999999999999', '5 '])('no integer: %p', (text) => {
    expect(() => integer()(text)).toThrow(/is not a whole number/);
  });
  test('bounds', () => {
    expect(() => integer({ min: 1 })('0')).toThrow(/of at least 1/);
    expect(() => decimal({ min: 0, max: 1 })('1.5')).toThrow(/from 0 to 1/);
  });
  test.each([
    ['0.5', 0.5],
    ['3e-4', 3e-4],
    ['.5', 0.5],
  ])('decimal %p', (text, value) => expect(decimal()(text)).toBe(value));
  test.each(['', 'NaN', 'Infinity', '1,5'])('no decimal: %p', (text) => {
    expect(() => decimal()(text)).toThrow(/is not a number/);
  });
  test.each([
    ['90', 90],
    ['90s', 90],
    ['15m', 900],
    ['1h30m', 5400],
    ['1.5m', 90],
  ])('duration %p', (text, value) => expect(duration(text)).toBe(value));
  test.each(['', '0', '0s', '5d', 'm', '1m5'])('no duration: %p', (text) => {
    expect(() => duration(text)).toThrow(/is not a duration/);
  });
  test('devices', () => {
    for (const name of ['cpu', 'cuda', 'cuda:1', 'auto']) expect(deviceName(name)).toBe(name);
    expect(() => deviceName('gpu')).toThrow(/Use cpu, cuda/);
  });
});

describe('failures', () => {
  const typed = Object.assign(new Error('it is so. Do this'), {
    name: 'FileError',
    code: 'ERR_FILE',
  });

  test('a typed error is one line with its code', () => {
    expect(describeFailure(typed, '')).toBe('longspan: it is so. Do this [ERR_FILE]');
  });
  test('LONGSPAN_DEBUG adds stacks, causes included', () => {
    const text = describeFailure(Object.assign(typed, { cause: new Error('deep') }), '1');
    expect(text).toMatch(/^longspan: it is so.*caused by: Error: deep/s);
  });
  test('an error of another kind shows its stack', () => {
    expect(describeFailure(new TypeError('x'), '')).toMatch(/TypeError: x\n +at /);
  });
});
