import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { loadTensors } from 'longspan';
import { root } from '../root.js';
import { temporaryDirectory } from '../temporary.js';
import { longspan, program } from './run.js';

const tiny = ['--dim', '16', '--layers', '1', '--heads', '2', '--sequence', '32', '--batch', '4'];

/** Text with words that repeat, and a file that is not text. */
function prepare(at: (name?: string) => string): void {
  fs.mkdirSync(at('texts'));
  for (const name of ['a', 'b', 'c']) {
    const line = `${name} says: the quick brown fox jumps over the lazy dog\n`;
    fs.writeFileSync(at(`texts/${name}.txt`), line.repeat(20));
  }
  fs.writeFileSync(at('binary.txt'), Buffer.from([65, 0, 66]));
}

describe('train and generate', () => {
  const at = temporaryDirectory();
  beforeAll(() => prepare(at));

  test('trains, resumes and writes text', () => {
    const steps = ['--steps', '20', '--eval-every', '10'];
    const first = longspan(['train', at('texts'), ...tiny, ...steps, '-o', at('run')]);
    expect(first.err).toMatch(/Trained 20 steps/);
    expect(first.code).toBe(0);
    expect(first.err).toMatch(/unigram .*\n.*trigram .*\n.*this Transformer/);
    for (const file of ['step-000020', 'best', 'model'])
      expect(fs.existsSync(at(`run/${file}.safetensors`))).toBe(true);
    expect(fs.readFileSync(at('run/loss.svg'), 'utf8')).toMatch(/<svg/);

    const again = longspan(['train', at('texts'), ...tiny, '-o', at('run')]);
    expect(again.code).toBe(1);
    expect(again.err).toMatch(/holds a run at step 20.*--resume/);

    const other = longspan(['train', '--resume', '-o', at('run'), '--dim', '32']);
    expect(other.err).toMatch(/'dim' is 32, but 16 in the run that is resumed/);
    const more = longspan(['train', '--resume', '-o', at('run'), '--steps', '30']);
    expect(more.err).toMatch(/Trained 30 steps/);
    expect(more.code).toBe(0);

    const args = ['generate', '-c', at('run'), '-p', 'the ', '-n', '24', '--seed', '3'];
    const text = longspan(args);
    expect(text.code).toBe(0);
    expect(text.out.startsWith('the ')).toBe(true);
    expect(longspan(args).out).toBe(text.out);
    expect(longspan([...args, '--no-cache']).out).toBe(text.out);
    const piped = longspan([...args.slice(0, 3), '-p', '-', '-q', '-n', '5'], { input: 'the ' });
    expect(piped.code).toBe(0);
    expect(piped.err).toBe('');
    const long = longspan([...args, '-n', '200']);
    expect(long.err).toMatch(/with 200 to follow.*window/);
    expect(longspan([...args, '-n', '200', '--window']).code).toBe(0);
  });

  test.each([
    ['reformer', 'Reformer', ['--chunk', '8', '--buckets', '8', '--rounds', '2'], []],
    [
      'routing-transformer',
      'Routing Transformer',
      ['--clusters', '4', '--window', '8', '--routed-heads', '1', '--local-window', '8'],
      ['centroids', 'average_sums', 'average_counts'],
    ],
  ])('a %s trains, resumes bit for bit and writes text', async (name, title, own, state) => {
    const out = at(name);
    const stray = longspan(['train', at('texts'), ...tiny, ...own, '-o', out]);
    expect(stray.code).toBe(1);
    expect(stray.err).toMatch(new RegExp(`belongs to --model ${name}`));
    const args = ['train', at('texts'), ...tiny, '-m', name, ...own];
    const whole = ['--steps', '8', '--eval-every', '4', '--keep', '9'];
    const first = longspan([...args, ...whole, '-o', out]);
    expect(first.err).toMatch(new RegExp(`model +${title}[\\s\\S]*this ${title}`));
    expect(first.code).toBe(0);
    fs.mkdirSync(`${out}-again`);
    fs.copyFileSync(`${out}/step-000004.safetensors`, `${out}-again/step-000004.safetensors`);
    expect(longspan(['train', '--resume', '-o', `${out}-again`]).code).toBe(0);
    const weights = (dir: string) => fs.readFileSync(`${dir}/model.safetensors`);
    expect(weights(`${out}-again`).equals(weights(out))).toBe(true);

    // What mechanisms remember is among the weights, and moved after the checkpoint.
    const [early, late] = await Promise.all(
      ['step-000004', 'model'].map((file) => loadTensors(`${out}/${file}.safetensors`)),
    );
    const bits = (tensors: typeof early, kept: string) => {
      const found = Object.entries(tensors ?? {}).filter(([key]) =>
        key.endsWith(`mechanisms.1.${kept}`),
      );
      expect(found).toHaveLength(1);
      return found[0]?.[1].dataSync();
    };
    for (const kept of state) expect(bits(early, kept)).not.toEqual(bits(late, kept));

    const write = ['generate', '-c', out, '-p', 'the ', '-n', '20', '--seed', '3'];
    const text = longspan(write);
    expect(text.code).toBe(0);
    expect(longspan([...write, '--no-cache']).out).toBe(text.out);
  });

  test('Ctrl-C finishes the step, saves, and ends with its own code', async () => {
    const args = ['train', at('texts'), ...tiny, '--steps', '1000000', '-o', at('stopped')];
    const child = spawn(process.execPath, [program, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let err = '';
    const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
    await new Promise<void>((resolve) => {
      child.stderr.on('data', (part) => {
        err += part;
        if (err.includes('training')) setTimeout(resolve, 500);
      });
    });
    child.kill('SIGINT');
    expect(await closed).toBe(130);
    expect(err).toMatch(/stopping after this step/);
    expect(err).toMatch(/training stopped at step \d+/);
    expect(fs.readdirSync(at('stopped')).some((name) => name.startsWith('step-'))).toBe(true);
    const info = longspan(['train', '--resume', '-o', at('stopped'), '--time', '1s']);
    expect(info.code).toBe(0);
  });

  test.each<[string, string[], number, RegExp]>([
    ['no text', ['train'], 1, /Give text files or directories/],
    ['a missing file', ['train', '/no/such.txt'], 1, /'\/no\/such.txt' does not exist/],
    ['a width the heads do not divide', ['--dim', '30', '--heads', '4'], 1, /heads/],
    ['a bad number', ['train', 'x', '--dim', 'wide'], 2, /'wide' is not a whole number/],
    ['a bad dtype', ['train', 'x', '--dtype', 'f8'], 2, /Allowed choices are f32, bf16, f16/],
    ['an unknown option', ['train', 'x', '--learning-rate', '1'], 2, /unknown option/],
    ['a missing checkpoint', ['generate', '-c', '/no/run'], 1, /there is no checkpoint at/],
    ['no checkpoint', ['generate'], 2, /required option.*--checkpoint/],
    ['nothing to resume', ['train', '--resume'], 1, /holds no run to resume/],
  ])('%s', (_name, args, code, message) => {
    const out = args.includes('--checkpoint') || args[0] === 'generate' ? [] : ['-o', at('bad')];
    const full = args[0].startsWith('--') ? ['train', at('texts'), ...args] : args;
    const result = longspan([...full, ...out]);
    expect(result.err).toMatch(message);
    expect(result.err.trim().split('\n').length).toBeLessThanOrEqual(code === 2 ? 2 : 8);
    expect(result.code).toBe(code);
  });

  test('binary and unreadable text', () => {
    const binary = longspan(['train', at('binary.txt'), ...tiny, '-o', at('bad')]);
    expect(binary.code).toBe(1);
    expect(binary.err).toMatch(/is not text: it contains NUL bytes.*\[ERR_FORMAT\]/);
    expect(binary.err).not.toMatch(/\n +at /);
  });

  test('a device that is not there', () => {
    const { code, err } = longspan(['train', at('texts'), ...tiny, '-d', 'cuda', '-o', at('bad')]);
    expect(code).toBe(1);
    expect(err).toMatch(/cannot be used/);
  });

  test('a damaged checkpoint', () => {
    fs.writeFileSync(at('damaged.safetensors'), 'not this');
    const { code, err } = longspan(['generate', '-c', at('damaged.safetensors')]);
    expect(code).toBe(1);
    expect(err).toMatch(/\[ERR_FORMAT\]/);
  });
});

describe('quickstart', () => {
  const at = temporaryDirectory();
  beforeAll(() => prepare(at));

  test('a tiny budget goes all the way', () => {
    const args = ['quickstart', at('texts'), '--steps', '2', '--tokens', '20', '-o', at('run')];
    const { code, out, err } = longspan(args, { cwd: root });
    expect(err).toMatch(/Trained 2 steps/);
    expect(err).toMatch(/trigram/);
    expect(out.length).toBeGreaterThan(10);
    expect(code).toBe(0);
    expect(longspan(args, { cwd: root }).code).toBe(0); // replaces the first
  });
});
