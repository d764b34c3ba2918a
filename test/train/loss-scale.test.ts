import {
  AdamW,
  backward,
  device,
  Module,
  mul,
  parameter,
  sum,
  type Tensor,
  tensor,
} from 'longspan';
import { LossScale } from '#lib/train/loss-scale';
import { Updater } from '#lib/train/updater';

const flag = (value: number): Tensor => tensor([value]);

test('halves at an overflow, doubles after an interval without one', () => {
  const scale = new LossScale(device('cpu'), { initial: 1024, growthInterval: 3 });
  const seen: number[] = [];
  for (const overflow of [0, 0, 0, 0, 1, 0, 0, 0, 1, 1]) {
    scale.update(flag(overflow));
    seen.push(scale.factor.itemSync());
  }
  expect(seen).toEqual([1024, 1024, 2048, 2048, 1024, 1024, 1024, 2048, 1024, 512]);
});

test('never grows beyond 2^24', () => {
  const scale = new LossScale(device('cpu'), { initial: 2 ** 23, growthInterval: 1 });
  for (let i = 0; i < 4; i++) scale.update(flag(0));
  expect(scale.factor.itemSync()).toBe(2 ** 24);
});

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
  constructor(dtype: 'f16' | 'f32') {
    super();
    this.w = parameter(tensor([1, 2], { dtype }));
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

test('the scale leaves no trace in norm and step', () => {
  const [plain, scaled] = [new Two('f32'), new Two('f16')];
  const a = step(plain, updater(plain, { clip: 1 }), 3);
  const b = step(scaled, updater(scaled, { clip: 1, lossScale: { initial: 256 } }), 3);
  expect(b.norm).toBeCloseTo(a.norm, 2);
  expect(a.norm).toBeCloseTo(3 * Math.SQRT2, 5);
  b.weights.forEach((w, i) => {
    expect(w).toBeCloseTo(a.weights[i], 2);
  });
});

test('f16 is scaled without being asked; a step that overflows changes nothing but the scale', () => {
  const model = new Two('f16');
  const update = updater(model);
  expect(update.scaled).toBe(true);
  const overflowing = step(model, update, 8); // 8 * 2^16 is beyond f16
  expect(overflowing.weights).toEqual([1, 2]);
  expect(update.tensors()['loss_scale.factor'].itemSync()).toBe(2 ** 15);
  for (let i = 0; i < 5; i++) step(model, update, 8);
  expect(step(model, update, 8).weights[0]).toBeLessThan(1);
});

test('the state comes back', () => {
  const [model, other] = [new Two('f16'), new Two('f16')];
  const [update, restored] = [updater(model), updater(other)];
  for (let i = 0; i < 6; i++) step(model, update, 4);
  const saved = Object.fromEntries(
    Object.entries(update.tensors()).map(([name, t]) => [name, t.clone()]),
  );
  other.loadStateDict(model.stateDict());
  restored.restore(saved);
  expect(step(other, restored, 4)).toEqual(step(model, update, 4));
  expect(() => updater(new Two('f32')).restore({ 'loss_scale.factor': flag(1) })).toThrow(
    /with a loss scale/,
  );
});
