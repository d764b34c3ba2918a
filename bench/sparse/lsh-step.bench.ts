/** A decoding step of attention by hashing after few and after many tokens: what it costs must not grow with them. */
import { Generator, LshCache, lshRotations, lshStep, normal, tidy } from 'longspan';
import { type BenchContext, defineBench, type Prepared } from '../harness/case.js';
import { ownWork } from '../harness/own-work.js';

interface Shape {
  heads: number;
  d: number;
  buckets: number;
  rounds: number;
  chunk: number;
  steps: number;
}

function stepping({ device }: BenchContext, tokens: number, shape: Shape): Prepared {
  const { heads, d, buckets, rounds, chunk, steps } = shape;
  const generator = new Generator(1, device);
  const draw = (n: number) => normal([1, heads, n, d], { device, generator });
  const [qk, v] = [draw(steps), draw(steps)];
  const rotations = lshRotations(qk, { buckets, rounds, generator });
  const cache = new LshCache({
    ...{ batch: 1, heads, capacity: tokens + steps, buckets, rounds, chunk, keyDim: d, device },
  });
  tidy(() => lshStep(draw(tokens), draw(tokens), rotations, cache));
  const [lists, counts] = [cache.lists.dataSync(), cache.counts.dataSync()];
  return {
    run: () => undefined,
    async sample() {
      await device.synchronize();
      const start = performance.now();
      for (let i = 0; i < steps; i++) {
        tidy(() => lshStep(qk.slice(2, i, i + 1), v.slice(2, i, i + 1), rotations, cache));
      }
      await device.synchronize();
      const seconds = (performance.now() - start) / 1e3 / steps;
      cache.tokens.truncate(tokens);
      cache.lists.write(lists);
      cache.counts.write(counts);
      return seconds;
    },
    dispose() {
      for (const t of [qk, v, rotations, cache]) t.dispose();
    },
  };
}

export default defineBench({
  name: 'lsh-step',
  cases(context) {
    const shape: Shape = context.smoke
      ? { heads: 2, d: 16, buckets: 4, rounds: 2, chunk: 8, steps: 4 }
      : { heads: 8, d: 64, buckets: 16, rounds: 4, chunk: 64, steps: 64 };
    const [few, many] = context.smoke ? [64, 256] : [1024, 16384];
    const { heads, d, buckets, rounds, chunk } = shape;
    return [
      {
        operator: 'lshStep',
        shape: `H${heads} D${d}, ${buckets} buckets, ${rounds} rounds, chunk ${chunk}, after ${many} tokens`,
        tokens: 1,
        prepare: () => stepping(context, many, shape),
        peer: ownWork(`after ${few}`, context.device, () => stepping(context, few, shape)),
      },
    ];
  },
});
