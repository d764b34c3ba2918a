/**
 * Steps of the model that `npm start` trains, the whole loop: batches, forward, backward, clipping,
 * AdamW. FLOPs are the model's, counted from shapes (three times the forward pass). The peer is the
 * time in which the matmul of 1024^3 does as many, measured in the same round.
 */
import {
  AdamW,
  device,
  Generator,
  matmul,
  normal,
  Random,
  textLoss,
  textSource,
  train,
} from 'longspan';
import { quickstartRecipe } from '#lib/cli/commands/quickstart';
import { makeLanguageModel } from '#lib/train/train-language-model';
import { type BenchCase, defineBench, type Peer, type Prepared } from '../harness/case.js';

const steps = 12;

/** Multiplications and additions of one step: products with weights, and the causal half of attention. */
function flopsOfStep(): number {
  const { dim, layers, sequence, batch } = quickstartRecipe;
  const model = makeLanguageModel({ ...quickstartRecipe, steps: 1 });
  const { feedForward, vocabSize } = model.config;
  for (const p of model.parameters()) p.dispose();
  const weights = layers * (4 * dim * dim + 3 * dim * feedForward) + dim * vocabSize;
  const tokens = batch * sequence;
  return 3 * (2 * weights * tokens + layers * 2 * sequence * dim * tokens);
}

function prepare(): Prepared {
  const { sequence, batch, rate } = quickstartRecipe;
  const model = makeLanguageModel({ ...quickstartRecipe, steps }, { generator: new Generator(1) });
  const random = new Random(1);
  const data = Uint8Array.from({ length: 1 << 16 }, () => random.below(256));
  const source = textSource({ data, batch, length: sequence, seed: 1 });
  const optimizer = new AdamW([...model.namedParameters()], { lr: rate, betas: [0.9, 0.95] });
  const several = (count: number) =>
    train(model, source, { loss: textLoss, optimizer, clip: 1, steps: count });
  return {
    run: () => undefined,
    finish: () => device('cpu').synchronize(),
    async sample() {
      const start = performance.now();
      await several(steps);
      return (performance.now() - start) / 1e3 / steps;
    },
  };
}

function matmulPeer(flops: number): Peer {
  const n = 1024;
  const [a, b] = [normal([n, n]), normal([n, n])];
  return {
    name: 'matmul',
    async sample() {
      const repeats = 40;
      const start = performance.now();
      for (let i = 0; i < repeats; i++) matmul(a, b).dispose();
      await device('cpu').synchronize();
      const rate = (2 * n ** 3 * repeats) / ((performance.now() - start) / 1e3);
      return flops / rate;
    },
  };
}

export default defineBench({
  name: 'training',
  cases(): BenchCase[] {
    const flops = flopsOfStep();
    const { dim, layers, sequence, batch } = quickstartRecipe;
    return [
      {
        operator: 'training step',
        shape: `quickstart: ${layers} layers, ${dim} wide, ${batch} x ${sequence}`,
        flops,
        prepare,
        peer: matmulPeer(flops),
      },
    ];
  },
});
