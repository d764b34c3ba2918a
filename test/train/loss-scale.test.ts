import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import {
  AdamW,
  type BatchSource,
  backward,
  device,
  Generator,
  Module,
  mul,
  openRun,
  parameter,
  randint,
  sum,
  type Tensor,
  TransformerLM,
  tensor,
  train,
} from 'longspan';
import { loadOptimizerTensors } from '#lib/train/checkpoint';
import { LossScale } from '#lib/train/loss-scale';
import { Updater } from '#lib/train/updater';
import { testDevices } from '../support/devices.js';
import { temporaryDirectory } from '../temporary.js';

test.each([[{ initial: 0 }], [{ initial: Number.NaN }], [{ growthInterval: 0 }]])(
  'refuses %p',
  (options) => {
    expect(() => new LossScale(device('cpu'), options)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    );
  },
);

class Two extends Module {
  readonly w;
  constructor(dtype: 'f16' | 'f32', on: string) {
    super();
    this.w = parameter(tensor([1, 2], { dtype, device: on }));
  }
}

function updater(model: Two, more: object = {}): Updater {
  const optimizer = new AdamW(model.namedParameters(), { lr: 0.1, weightDecay: 0 });
  return new Updater(model, { optimizer, ...more });
}

/** The weights after one step whose loss is `factor` times their sum, and the gradient's norm. */
function step(model: Two, update: Updater, factor: number): { weights: number[]; norm: number } {
  const loss = mul(sum(model.w), factor).to('f32');
  backward(loss, { gradient: update.seed(loss, 1) });
  const norm = update.apply(0.1).itemSync();
  return { weights: [...model.w.to('f32').dataSync()] as number[], norm };
}

describe.each(testDevices())('on %s', (name) => {
  const on = device(name);
  const flag = (value: number): Tensor => tensor([value], { device: name });

  test('halves at an overflow, doubles after an interval without one', () => {
    const scale = new LossScale(on, { initial: 1024, growthInterval: 3 });
    const seen: number[] = [];
    for (const overflow of [0, 0, 0, 0, 1, 0, 0, 0, 1, 1]) {
      scale.update(flag(overflow));
      seen.push(scale.factor.itemSync());
    }
    expect(seen).toEqual([1024, 1024, 2048, 2048, 1024, 1024, 1024, 2048, 1024, 512]);
  });

  test('never grows beyond 2^24', () => {
    const scale = new LossScale(on, { initial: 2 ** 23, growthInterval: 1 });
    for (let i = 0; i < 4; i++) scale.update(flag(0));
    expect(scale.factor.itemSync()).toBe(2 ** 24);
  });

  test('the scale leaves no trace in norm and step', () => {
    const [plain, scaled] = [new Two('f32', name), new Two('f16', name)];
    const a = step(plain, updater(plain, { clip: 1 }), 3);
    const b = step(scaled, updater(scaled, { clip: 1, lossScale: { initial: 256 } }), 3);
    expect(b.norm).toBeCloseTo(a.norm, 2);
    expect(a.norm).toBeCloseTo(3 * Math.SQRT2, 5);
    b.weights.forEach((w, i) => {
      expect(w).toBeCloseTo(a.weights[i], 2);
    });
  });

  test('f16 is scaled without being asked; a step that overflows changes nothing but the scale', () => {
    const model = new Two('f16', name);
    const update = updater(model);
    expect(update.scaled).toBe(true);
    const overflowing = step(model, update, 8); // 8 * 2^16 is beyond f16
    expect(overflowing.weights).toEqual([1, 2]);
    expect(update.tensors()['loss_scale.factor'].itemSync()).toBe(2 ** 15);
    for (let i = 0; i < 5; i++) step(model, update, 8);
    expect(step(model, update, 8).weights[0]).toBeLessThan(1);
  });

  test('the state comes back', () => {
    const [model, other] = [new Two('f16', name), new Two('f16', name)];
    const [update, restored] = [updater(model), updater(other)];
    for (let i = 0; i < 6; i++) step(model, update, 4);
    const saved = Object.fromEntries(
      Object.entries(update.tensors()).map(([name, t]) => [name, t.clone()]),
    );
    other.loadStateDict(model.stateDict());
    restored.restore(saved);
    expect(step(other, restored, 4)).toEqual(step(model, update, 4));
    expect(() => updater(new Two('f32', name)).restore({ 'loss_scale.factor': flag(1) })).toThrow(
      /with a loss scale/,
    );
  });

  const at = temporaryDirectory();

  test('a run in f16: growth, an overflow, and its checkpoints, bit for bit', async () => {
    const course = async (folder: string, steps: number, resume?: string) => {
      const model = new TransformerLM({
        ...{ vocabSize: 20, dModel: 16, layers: 1, heads: 2, maxLength: 8 },
        ...{ dtype: 'f16', device: name, generator: new Generator(4, name) },
      });
      const run = openRun(at(folder));
      await train(model, new Overflowing(6), {
        loss: (m, { ids, factor }) => mul(m.loss(ids, ids), factor),
        optimizer: new AdamW(model.namedParameters(), { lr: 1e-2 }),
        lossScale: { initial: 2 ** 14, growthInterval: 4 },
        ...{ steps, run, saveEvery: 1, keep: 20, clip: 1, ...(resume && { resume }) },
      });
      return run;
    };
    class Overflowing implements BatchSource<{ ids: Tensor; factor: number }> {
      #step = 0;
      constructor(private readonly at: number) {}
      next() {
        const generator = new Generator(++this.#step, name);
        const ids = randint([2, 8], 0, 20, { generator });
        return { ids, factor: this.#step === this.at ? 1024 : 1 };
      }
      state() {
        return this.#step;
      }
      restore(state: unknown) {
        this.#step = state as number;
      }
    }
    const whole = await course('whole', 12);
    const scales: number[] = [];
    const weights: string[] = [];
    for (let step = 1; step <= 12; step++) {
      const state = await loadOptimizerTensors(whole.checkpointPath(step), on);
      scales.push(Math.log2((state['loss_scale.factor'] as Tensor).itemSync()));
      const hash = createHash('sha256');
      for (const [key, t] of Object.entries(state)) {
        // Steps are counted apart: those of the run, and those that changed something.
        if (key !== 'steps' && !key.startsWith('loss_scale')) hash.update(key).update(t.dataSync());
      }
      weights.push(hash.digest('hex'));
    }
    expect(scales).toEqual([14, 14, 14, 15, 15, 14, 14, 14, 14, 15, 15, 15]);
    expect(weights[5]).toBe(weights[4]); // master weights, moments and step count stand still
    expect(new Set(weights).size).toBe(11);
    const halves = await course('halves', 6);
    await course('halves', 12, halves.checkpointPath(6));
    expect(fs.readFileSync(halves.checkpointPath(12))).toEqual(
      fs.readFileSync(whole.checkpointPath(12)),
    );
  });
});
