/** One training run on the CPU and on a GPU: the same course within rounding. */
import {
  AdamW,
  clipGradNorm,
  crossEntropy,
  Generator,
  Random,
  TransformerLM,
  tensor,
  tidy,
} from 'longspan';
import { describeCuda } from '../support/devices.js';

const steps = 50;
const batch = 2;
const length = 16;

/** Losses of every step, and the weights after the last. */
async function course(device: string): Promise<{ losses: number[]; weights: Float32Array[] }> {
  const model = new TransformerLM({
    vocabSize: 40,
    dModel: 16,
    layers: 1,
    heads: 2,
    maxLength: length,
    device,
    generator: new Generator(3, device),
  });
  const optimizer = new AdamW(model.parameters(), { lr: 3e-3, weightDecay: 0.1 });
  const random = new Random(5);
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const ids = Int32Array.from({ length: batch * length }, () => random.below(40));
    const next = ids.map((id) => (3 * id + 1) % 40);
    const on = { shape: [batch, length], device };
    const loss = tidy(() => {
      const value = crossEntropy(model.forward(tensor(ids, on)), tensor(next, on));
      value.backward();
      clipGradNorm(model.parameters(), 1);
      optimizer.step();
      optimizer.zeroGrad();
      return value;
    });
    losses.push(await loss.item());
    loss.dispose();
  }
  const weights = await Promise.all(model.parameters().map((p) => p.data()));
  return { losses, weights: weights as Float32Array[] };
}

describeCuda('50 steps of a language model', () => {
  test('agree between the CPU and a GPU', async () => {
    const [cpu, cuda] = [await course('cpu'), await course('cuda')];
    expect(cpu.losses[steps - 1]).toBeLessThan((cpu.losses[0] as number) - 0.5);
    cuda.losses.forEach((loss, i) => {
      expect(Math.abs(loss - (cpu.losses[i] as number))).toBeLessThan(1e-4);
    });
    cuda.weights.forEach((found, i) => {
      const wanted = cpu.weights[i] as Float32Array;
      const apart = Math.hypot(...found.map((w, j) => w - (wanted[j] as number)));
      expect(apart / Math.hypot(...wanted)).toBeLessThan(1e-4);
    });
  });
});
