import * as fs from 'node:fs';
import {
  BatchSampler,
  ByteVocabulary,
  concatenate,
  evaluationBatches,
  loadCorpus,
  splitCorpus,
  type TextFile,
} from 'longspan';
import { temporaryDirectory } from '../temporary.js';

const bytes = (text: string) => new TextEncoder().encode(text);

describe('loadCorpus', () => {
  const at = temporaryDirectory();

  beforeAll(() => {
    fs.mkdirSync(at('c/sub'), { recursive: true });
    fs.writeFileSync(at('c/b.md'), 'beta');
    fs.writeFileSync(at('c/a.md'), 'alpha');
    fs.writeFileSync(at('c/sub/z.d.ts'), 'export {};');
    fs.writeFileSync(at('c/copy.md'), 'beta');
    fs.writeFileSync(at('c/empty.md'), '');
    fs.writeFileSync(at('c/binary.md'), new Uint8Array([65, 0, 66]));
    fs.symlinkSync(at('c'), at('c/sub/cycle'));
  });

  test('finds files in a stable order, follows no links, says what it left out and why', async () => {
    const corpus = await loadCorpus(at('c'));
    expect(corpus.files.map((file) => file.name)).toEqual(['a.md', 'b.md', 'sub/z.d.ts']);
    expect(corpus.totalBytes).toBe(19);
    expect(corpus.skipped).toEqual([
      { name: 'binary.md', reason: 'binary' },
      { name: 'copy.md', reason: 'duplicate' },
      { name: 'empty.md', reason: 'empty' },
    ]);
    expect(new TextDecoder().decode(concatenate(corpus.files))).toBe('alphabetaexport {};');
  });

  test('extensions and maxBytes choose; the same seed chooses the same', async () => {
    const markdown = await loadCorpus(at('c'), { extensions: ['.md'] });
    expect(markdown.files.map((file) => file.name)).toEqual(['a.md', 'b.md']);
    const some = await loadCorpus(at('c'), { maxBytes: 12, seed: 3 });
    expect(some.totalBytes).toBeLessThanOrEqual(12);
    expect(await loadCorpus(at('c'), { maxBytes: 12, seed: 3 })).toEqual(some);
  });

  test('what a training run wrote below a directory is left out, and taken where it is named', async () => {
    fs.mkdirSync(at('d/runs/one'), { recursive: true });
    fs.writeFileSync(at('d/a.md'), 'alpha');
    fs.writeFileSync(at('d/runs/notes.md'), 'notes');
    fs.writeFileSync(at('d/runs/one/loss.svg'), '<svg/>');
    fs.writeFileSync(at('d/runs/one/step-000004.safetensors'), 'w');
    const corpus = await loadCorpus(at('d'));
    expect(corpus.files.map((file) => file.name)).toEqual(['a.md', 'runs/notes.md']);
    expect(corpus.skipped).toEqual([
      { name: 'runs/one/loss.svg', reason: 'run' },
      { name: 'runs/one/step-000004.safetensors', reason: 'run' },
    ]);
    const named = await loadCorpus(at('d/runs/one'), { extensions: ['.svg'] });
    expect(named.totalBytes).toBe(6);
  });

  const wrong: [string, () => unknown, string, RegExp][] = [
    ['NaN for a path', () => Number.NaN, 'ERR_VALUE', /'paths' is NaN/],
    ['a path with NUL', () => 'a\0b', 'ERR_VALUE', /'paths' is "a\\u0000b"/],
    ['no path', () => [], 'ERR_VALUE', /empty list/],
    ['a missing file', () => at('none.txt'), 'ERR_FILE', /does not exist/],
    ['a path through a file', () => at('c/a.md/x'), 'ERR_FILE', /cannot read .*a\.md\/x/],
    ['a device', () => '/dev/null', 'ERR_FILE', /no regular file/],
    ['an empty file', () => at('c/empty.md'), 'ERR_FORMAT', /is empty/],
    ['a binary file', () => [at('c/a.md'), at('c/binary.md')], 'ERR_FORMAT', /not text/],
  ];
  test.each(wrong)('refuses %s', async (_, paths, code, message) => {
    const error = await loadCorpus(paths() as string).catch((e: unknown) => e);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect((error as { remedy: string }).remedy).toBeTruthy();
  });

  test('refuses directories without usable text, bad options and an aborted signal', async () => {
    await expect(loadCorpus(at('c'), { extensions: ['.py'] })).rejects.toThrow(/ends in .py/);
    fs.mkdirSync(at('hollow'));
    fs.writeFileSync(at('hollow/x'), '');
    await expect(loadCorpus(at('hollow'))).rejects.toThrow(/no usable text/);
    await expect(loadCorpus(at('c'), { maxBytes: Number.NaN })).rejects.toThrow(
      /'maxBytes' is NaN/,
    );
    const signal = AbortSignal.abort();
    await expect(loadCorpus(at('c'), { signal })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });
});

describe('splitCorpus', () => {
  const files: TextFile[] = Array.from({ length: 200 }, (_, i) => ({
    name: `dir/file${i}.ts`,
    bytes: new Uint8Array(50 + ((i * 37) % 100)),
  }));
  const size = (list: readonly TextFile[]) => list.reduce((sum, f) => sum + f.bytes.length, 0);
  const names = (list: readonly TextFile[]) => list.map((f) => f.name);

  test('divides whole files near the share wanted, the same way for the same seed', () => {
    const { train, validation } = splitCorpus(files, { validation: 0.1, seed: 4 });
    expect(size(validation) / size(files)).toBeCloseTo(0.1, 2);
    expect([...names(train), ...names(validation)].sort()).toEqual(names(files).sort());
    expect(names(splitCorpus(files, { validation: 0.1, seed: 4 }).validation)).toEqual(
      names(validation),
    );
    expect(names(splitCorpus(files, { seed: 5 }).validation)).not.toEqual(names(validation));
  });

  test('does not depend on the order of the files it is given', () => {
    const backwards = splitCorpus([...files].reverse(), { seed: 1 });
    expect(names(backwards.validation).reverse()).toEqual(
      names(splitCorpus(files, { seed: 1 }).validation),
    );
  });

  test('keeps variants of one file together', () => {
    const variants = files.flatMap((f) => [
      { ...f, name: f.name.replace('.ts', '.d.ts') },
      { ...f, name: f.name.replace('.ts', '.d.mts') },
    ]);
    const { train, validation } = splitCorpus(variants);
    const stems = (list: readonly TextFile[]) => names(list).map((n) => n.split('.')[0]);
    expect(stems(validation).some((stem) => stems(train).includes(stem))).toBe(false);
  });

  test('both sides have text, even of two files or of one, which is cut after a line', () => {
    const two = splitCorpus(files.slice(0, 2), { validation: 0.01 });
    expect([two.train.length, two.validation.length]).toEqual([1, 1]);
    const text = bytes(`${'abcdefg\n'.repeat(100)}`);
    const one = splitCorpus([{ name: 'x', bytes: text }], { validation: 0.25 });
    expect(size(one.train) + size(one.validation)).toBe(800);
    expect(size(one.train)).toBe(600);
    expect(one.validation[0].bytes[0]).toBe(97);
    const tiny = splitCorpus([{ name: 'x', bytes: bytes('ab') }]);
    expect([size(tiny.train), size(tiny.validation)]).toEqual([1, 1]);
  });

  test('refuses shares and texts that cannot be divided', () => {
    expect(() => splitCorpus(files, { validation: 1 })).toThrow(/'validation' is 1/);
    expect(() => splitCorpus(files, { validation: Number.NaN })).toThrow(/'validation' is NaN/);
    expect(() => splitCorpus([])).toThrow(/'files' is 0 files/);
  });
});

describe('ByteVocabulary', () => {
  const vocabulary = new ByteVocabulary(['<bos>', '<eos>']);

  test('encodes bytes, decodes them, and leaves special tokens out of the text', () => {
    expect(vocabulary.size).toBe(258);
    expect([...vocabulary.encode('ü')]).toEqual([0xc3, 0xbc]);
    expect(vocabulary.decode([256, ...vocabulary.encode('zwölf 🙂'), 257])).toBe('zwölf 🙂');
  });

  test('a streamed character appears with its last byte; a broken one at the end', () => {
    const stream = vocabulary.decoder();
    const ids = vocabulary.encode('🙂');
    expect([...ids].map((id) => stream.push(id))).toEqual(['', '', '', '🙂']);
    stream.push(ids[0]);
    expect(stream.end()).toBe('\ufffd');
  });

  test('refuses unknown ids, names, and names given twice', () => {
    expect(() => vocabulary.decode([258])).toThrow(/'ids' is 258 at position 0/);
    expect(() => vocabulary.decode([Number.NaN])).toThrow(/'ids' is NaN/);
    expect(() => vocabulary.special('<pad>')).toThrow(/<bos>, <eos>/);
    expect(() => new ByteVocabulary(['a', 'a'])).toThrow(/'specials'/);
  });
});

describe('BatchSampler', () => {
  const data = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) % 251);
  const options = { data, batch: 4, length: 16, seed: 11 };

  test('targets are inputs one byte later; every start occurs, the last one too', () => {
    const short = new BatchSampler({ data: data.subarray(0, 6), batch: 8, length: 4, seed: 1 });
    const starts = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const { inputs, targets, count } = short.next();
      expect(count).toBe(32);
      for (let row = 0; row < 8; row++) {
        const start = inputs[row * 4] / 7;
        starts.add(start);
        for (let j = 0; j < 4; j++) {
          expect(inputs[row * 4 + j]).toBe(data[start + j]);
          expect(targets[row * 4 + j]).toBe(data[start + j + 1]);
        }
      }
    }
    expect([...starts].sort()).toEqual([0, 1]);
  });

  test('a state that went through JSON continues exactly', () => {
    const sampler = new BatchSampler(options);
    for (let i = 0; i < 5; i++) sampler.next();
    const state = JSON.parse(JSON.stringify(sampler.state()));
    const resumed = new BatchSampler({ ...options, seed: 999 });
    resumed.restore(state);
    for (let i = 0; i < 5; i++) expect(resumed.next()).toEqual(sampler.next());
    expect(resumed.state()).toEqual(sampler.state());
  });

  test('refuses text that is too short, bad sizes and the state of another run', () => {
    expect(() => new BatchSampler({ ...options, data: data.subarray(0, 16) })).toThrow(/16 bytes/);
    expect(() => new BatchSampler({ ...options, batch: 0 })).toThrow(/'batch' is 0/);
    const other = new BatchSampler({ ...options, length: 8 }).state();
    expect(() => new BatchSampler(options).restore(other)).toThrow(/length 8, this run has 16/);
    const state = { ...new BatchSampler(options).state(), drawn: -1 };
    expect(() => new BatchSampler(options).restore(state)).toThrow(/drawn -1/);
  });
});

describe('evaluationBatches', () => {
  test.each([2, 16, 17, 18, 33, 1000])('every byte of %i but the first is a target once', (n) => {
    const data = Uint8Array.from({ length: n }, (_, i) => i % 256);
    const targets: number[] = [];
    const inputs: number[] = [];
    for (const batch of evaluationBatches(data, { batch: 3, length: 16 })) {
      expect(batch.inputs.length).toBe(batch.batch * 16);
      expect(batch.targets.filter((t) => t >= 0).length).toBe(batch.count);
      targets.push(...batch.targets.filter((t) => t !== -100));
      inputs.push(...batch.inputs.subarray(0, batch.count));
    }
    expect(targets).toEqual([...data.subarray(1)]);
    expect(inputs).toEqual([...data.subarray(0, -1)]);
  });

  test('maxBatches ends early; a text of one byte has nothing to predict', () => {
    const data = new Uint8Array(1000);
    expect([...evaluationBatches(data, { batch: 2, length: 8, maxBatches: 3 })].length).toBe(3);
    expect(() => [...evaluationBatches(data.subarray(1, 2), { batch: 1, length: 8 })]).toThrow(
      /at least 2 bytes/,
    );
  });
});
