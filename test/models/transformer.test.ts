import {
  beamSearch,
  Generator,
  greedy,
  noGrad,
  stateScorer,
  type Tensor,
  Transformer,
  type TransformerOptions,
  tensor,
  tidy,
  transformerPresets,
  translate,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';

const small = {
  ...{ vocabSize: 13, dModel: 16, heads: 2, encoderLayers: 2, decoderLayers: 2 },
  ...{ feedForward: 32, maxLength: 24, dropout: 0 },
} as const;

function model(options: Partial<TransformerOptions> = {}): Transformer {
  return new Transformer({ ...small, generator: new Generator(1), ...options });
}

const ids = (rows: number[][]) => tensor(rows, { dtype: 'i32' });
const source = () =>
  ids([
    [3, 4, 5, 6],
    [7, 8, 0, 0],
    [9, 3, 1, 0],
  ]);
const target = () =>
  ids([
    [1, 5, 4, 3],
    [1, 8, 7, 0],
    [1, 2, 0, 0],
  ]);

describe('Transformer', () => {
  test('one table serves source, target and output', () => {
    const names = Object.keys(model().stateDict());
    expect(names.filter((name) => /embedding|generator/.test(name))).toEqual(['embedding.weight']);
    expect(names).toContain('encoder.layers.1.self_attn.in_proj_weight');
    expect(names).toContain('decoder.layers.0.multihead_attn.out_proj.weight');
    expect(names.some((name) => name.startsWith('encoder.norm'))).toBe(false);
    const untied = Object.keys(model({ tiedEmbeddings: false, finalNorm: true }).stateDict());
    expect(untied).toContain('generator.weight');
    expect(untied).toContain('decoder.norm.bias');
  });

  test('the base model has the parameters of the paper', () => {
    const d = 512;
    const attention = 4 * (d * d + d);
    const feedForward = 2 * d * 2048 + 2048 + d;
    const layers =
      6 * (attention + feedForward + 4 * d) + 6 * (2 * attention + feedForward + 6 * d);
    const base = new Transformer({ vocabSize: 100, ...transformerPresets.base });
    expect(base.parameterCount()).toBe(layers + 100 * d);
    base.dispose();
  });

  test('padding and batch mates change nothing', () => {
    const m = model({ dtype: 'f64' }).eval();
    const together = noGrad(() => m.forward(source(), target()));
    const alone = noGrad(() => m.forward(ids([[7, 8]]), ids([[1, 8, 7]])));
    expectClose(together.slice(0, 1, 2).slice(1, 0, 3), values(alone), { absolute: 1e-12 });
  });

  test('steps over a state equal the whole', () => {
    const m = model({ dtype: 'f64', normFirst: true }).eval();
    const whole = noGrad(() =>
      m.forward(
        source(),
        ids([
          [1, 5, 4, 3],
          [1, 8, 7, 2],
          [1, 2, 3, 4],
        ]),
      ),
    );
    const given = ids([
      [1, 5, 4, 3],
      [1, 8, 7, 2],
      [1, 2, 3, 4],
    ]);
    const state = m.initState(source(), { capacity: 4 });
    for (const [start, end] of [
      [0, 2],
      [2, 3],
      [3, 4],
    ] as const) {
      const logits = tidy(() => m.step(given.slice(1, start, end), state));
      expectClose(logits, values(whole.slice(1, start, end)), { absolute: 1e-12 });
    }
    expect(() => m.step(given.slice(1, 0, 1), state)).toThrow(/room for 4/);
    state.dispose();
  });

  test('beam search over the cache finds what recomputing finds', async () => {
    const m = model({ dtype: 'f64' }).eval();
    const [batch, beam, maxSteps] = [3, 4, 8];
    const options = { bos: 1, eos: 2, beam, batch, maxSteps, nBest: 3 };
    const rows = ids(
      [...values(source())].reduce<number[][]>((all, id, i) => {
        if (i % 4 === 0) for (let k = 0; k < beam; k++) all.push([]);
        for (const row of all.slice(-beam)) row.push(id);
        return all;
      }, []),
    );
    const again = await beamSearch({
      ...options,
      scorer: ({ index, prefix }) => {
        const given = Array.from({ length: batch * beam }, (_, row) => [1, ...prefix(row)]);
        const padded = given.map((row) => [...row, ...new Array(index + 1 - row.length).fill(3)]);
        const logits = noGrad(() => m.forward(rows, ids(padded)));
        return Float64Array.from(values(logits.slice(1, index, index + 1)));
      },
    });
    const found = await translate(m, source(), { bos: 1, eos: 2, beam, maxSteps, nBest: 3 });
    expect(found.map((list) => list.map((h) => h.tokens))).toEqual(
      again.map((list) => list.map((h) => h.tokens)),
    );
    found.flat().forEach((h, i) => {
      expect(h.score).toBeCloseTo(again.flat()[i]?.score as number, 10);
    });
    const state = m.initState(source(), { beams: beam, capacity: maxSteps });
    const direct = await beamSearch({ ...options, scorer: stateScorer(m, state) });
    expect(direct).toEqual(found);
    state.dispose();
  });

  test('greedy decoding is a beam of one', async () => {
    const m = model().eval();
    const options = { bos: 1, eos: 2, maxSteps: 8 };
    const found = await translate(m, source(), { ...options, beam: 1, alpha: 0 });
    const tokens = await greedy(m, source(), options);
    expect(tokens).toEqual(found.map(([h]) => h?.tokens));
    const signal = AbortSignal.abort();
    await expect(greedy(m, source(), { ...options, signal })).rejects.toThrow(/aborted/);
    await expect(greedy(m, source(), { ...options, beams: 1 } as object as never)).rejects.toThrow(
      /beams/,
    );
  });

  test('gradients reach every parameter', () => {
    const m = model({ dropout: 0.1, labelSmoothing: 0.1 });
    const next = [
      [5, 4, 3, 2],
      [8, 7, 2, 0],
      [2, 0, 0, 0],
    ];
    tidy(() => m.loss(source(), target(), ids(next)).backward());
    for (const [name, p] of m.namedParameters()) {
      const g = values(p.grad as Tensor);
      expect([name, g.some((x) => x !== 0), g.every(Number.isFinite)]).toEqual([name, true, true]);
    }
  });

  test('a configuration is JSON and makes the same model', () => {
    const m = model({ normFirst: true });
    const copy = Transformer.fromConfig(JSON.parse(JSON.stringify(m.config)));
    expect(copy.config).toEqual(m.config);
    copy.loadStateDict(m.stateDict());
    expect(values(noGrad(() => copy.forward(source(), target())))).toEqual(
      values(noGrad(() => m.forward(source(), target()))),
    );
  });

  test('bad options are typed errors', () => {
    expect(() => model({ layers: 3 } as object)).toThrow(/layers/);
    expect(() => model({ dropout: 2 })).toThrow(/\[0, 1\)/);
    expect(() => model({ encoderLayers: 0 })).toThrow(/encoderLayers/);
    expect(() => model().initState(source(), { capacity: 25 })).toThrow(/24 positions/);
    expect(() => model().initState(source(), { beam: 2 } as object)).toThrow(/beam.*beams/);
  });
});
