/**
 * Tokens written one after the other, a sequence at a time, sampled among the likeliest: `generate` as a
 * program calls it. On a GPU its step is recorded and replayed; the row without is there to be compared.
 */
import { generate } from 'longspan';
import { type BenchCase, type BenchContext, defineBench, type Prepared } from '../harness/case.js';
import { type BenchModel, benchModels } from './shapes.js';

const prompt = [10, 84, 104, 101];

function prepare(
  context: BenchContext,
  { make }: BenchModel,
  maxTokens: number,
  capture: boolean,
): Prepared {
  const model = make(context);
  return {
    run: () => undefined,
    async sample() {
      const options = { maxTokens, topK: 40, seed: 1, capture };
      const start = performance.now();
      for await (const _ of generate(model, prompt, options));
      return (performance.now() - start) / 1e3 / maxTokens;
    },
    dispose: () => model.parameters().forEach((p) => void p.dispose()),
  };
}

export default defineBench({
  name: 'decoding',
  cases: (context): BenchCase[] =>
    benchModels(context).flatMap((shape) =>
      [true, false].map((capture) => {
        const count = Math.min(context.smoke ? 6 : 256, shape.length - prompt.length);
        return {
          operator: capture ? 'generate, replayed' : 'generate',
          shape: `${shape.name}, ${count} tokens`,
          tokens: 1,
          prepare: () => prepare(context, shape, count, capture),
        };
      }),
    ),
});
