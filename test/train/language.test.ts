import * as fs from 'node:fs';
import {
  evaluateText,
  loadTextData,
  Module,
  type NextTokenModel,
  type Tensor,
  tensor,
  textSource,
} from 'longspan';
import { Pace } from '#lib/train/pace';
import { temporaryDirectory } from '../temporary.js';

/** Its loss is the mean of the targets that count, so an evaluation must give the mean of the text. */
class MeanOfTargets extends Module implements NextTokenModel {
  modes: boolean[] = [];
  loss(tokens: Tensor, targets: Tensor): Tensor {
    this.modes.push(this.training);
    expect(tokens.shape).toEqual(targets.shape);
    const kept = [...targets.dataSync()].map(Number).filter((id) => id !== -100);
    return tensor([kept.reduce((a, b) => a + b, 0) / kept.length], { shape: [1] });
  }
}

describe('evaluateText', () => {
  const data = Uint8Array.from({ length: 1003 }, (_, i) => (i * 7) % 251);

  test.each([
    [4, 32],
    [3, 50],
    [64, 64],
  ])('weighs every byte but the first equally: batch %i, length %i', async (batch, length) => {
    const model = new MeanOfTargets();
    const expected = data.subarray(1).reduce((a, b) => a + b, 0) / 1002;
    expect(await evaluateText(model, data, { batch, length })).toBeCloseTo(expected, 4);
    expect(model.modes.every((training) => !training)).toBe(true);
    expect(model.training).toBe(true);
  });

  test('a signal ends it, and the mode is put back', async () => {
    const model = new MeanOfTargets();
    const signal = AbortSignal.abort();
    await expect(evaluateText(model, data, { batch: 2, length: 8, signal })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    });
    expect(model.training).toBe(true);
  });
});

describe('loadTextData', () => {
  const at = temporaryDirectory();

  test('divides by file, up to a number of bytes', async () => {
    for (let i = 0; i < 40; i++) fs.writeFileSync(at(`${i}.txt`), `${i} `.repeat(200));
    const whole = await loadTextData(at(), { extensions: ['.txt'], seed: 1 });
    const total = whole.train.length + whole.validation.length;
    expect(whole.validation.length / total).toBeCloseTo(0.1, 1);
    const small = await loadTextData(at(), { extensions: ['.txt'], validationBytes: 1000 });
    expect(small.validation.length).toBeLessThan(1700);
    expect(small.validationFiles.length).toBeLessThan(4);
    const names = new Set(small.trainFiles.map(({ name }) => name));
    expect(small.validationFiles.some(({ name }) => names.has(name))).toBe(false);
  });

  test('misspelt options are refused', async () => {
    await expect(loadTextData(at(), { extension: ['.txt'] } as object)).rejects.toMatchObject({
      code: 'ERR_OPTION',
      argument: 'extension',
    });
  });
});

describe('textSource', () => {
  const data = Uint8Array.from({ length: 500 }, (_, i) => i % 256);
  const sizes = { batch: 2, length: 16, seed: 3 };

  test('continues exactly, through JSON', () => {
    const source = textSource({ data, ...sizes });
    for (let i = 0; i < 5; i++) source.next();
    const saved = JSON.parse(JSON.stringify(source.state()));
    const expected = [source.next(), source.next()];
    const other = textSource({ data, ...sizes, seed: 99 });
    other.restore(saved);
    expect([other.next(), other.next()]).toEqual(expected);
  });

  test('refuses other text of the same length', () => {
    const saved = textSource({ data, ...sizes }).state();
    const changed = data.slice();
    changed[100] ^= 1;
    expect(() => textSource({ data: changed, ...sizes }).restore(saved)).toThrow(
      expect.objectContaining({ code: 'ERR_CHECKPOINT', argument: 'data' }),
    );
  });
});

describe('Pace', () => {
  test('rate, and time left by steps or by the limit', () => {
    let time = 1000;
    const pace = new Pace(100, 60, () => time);
    pace.start(0);
    expect(pace.now()).toEqual({ tokensPerSecond: 0, elapsed: 0, timeLeft: 0 });
    for (let step = 1; step <= 10; step++) {
      time += 500;
      pace.add(step, step * 64);
    }
    expect(pace.now()).toEqual({ tokensPerSecond: 128, elapsed: 5, timeLeft: 45 });
    expect(pace.exceeded()).toBe(false);
    time += 54_800; // another half second would be too much
    expect(pace.now().timeLeft).toBeCloseTo(0.2, 6);
    expect(pace.exceeded()).toBe(true);
  });
});
