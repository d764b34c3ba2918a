/**
 * Steps of training, the whole loop: batches, forward, backward, clipping, AdamW. FLOPs are the model's,
 * counted from shapes (three times the forward pass). The peer on the CPU is the time in which the matmul
 * of 1024^3 does as many, measured in the same round.
 */
import {
  AdamW,
  device as deviceOf,
  matmul,
  normal,
  Random,
  textLoss,
  textSource,
  train,
} from 'longspan';
import {
  type BenchCase,
  type BenchContext,
  defineBench,
  type Peer,
  type Prepared,
} from '../harness/case.js';
import { type BenchModel, benchModels } from './shapes.js';

function prepare(context: BenchContext, { make, batch, length, rate }: BenchModel): Prepared {
  const steps = context.smoke ? 2 : 12;
  const model = make(context);
  const random = new Random(1);
  const data = Uint8Array.from({ length: 1 << 16 }, () => random.below(256));
  const source = textSource({ data, batch, length, seed: 1 });
  const optimizer = new AdamW([...model.namedParameters()], { lr: rate, betas: [0.9, 0.95] });
  return {
    run: () => undefined,
    async sample() {
      const start = performance.now();
      await train(model, source, { loss: textLoss, optimizer, clip: 1, steps });
      return (performance.now() - start) / 1e3 / steps;
    },
    dispose: () => model.parameters().forEach((p) => void p.dispose()),
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
      await deviceOf('cpu').synchronize();
      const rate = (2 * n ** 3 * repeats) / ((performance.now() - start) / 1e3);
      return flops / rate;
    },
  };
}

export default defineBench({
  name: 'training',
  cases: (context): BenchCase[] =>
    benchModels(context).map((shape) => {
      const { name, batch, length, dtype } = shape;
      // Counted on a model that is let go at once.
      const counted = shape.make(context);
      const tokens = batch * length;
      const flops = tokens * counted.flopsPerToken(length);
      for (const p of counted.parameters()) p.dispose();
      return {
        operator: 'training step',
        shape: `${name}, ${batch} x ${length}`,
        ...{ flops, tokens, dtype },
        prepare: () => prepare(context, shape),
        ...(context.device.type === 'cpu' && !context.smoke && { peer: matmulPeer(flops) }),
      };
    }),
});
