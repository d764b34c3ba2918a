import { type BeamScorer, beamSearch, type Hypothesis } from 'longspan';
import { loadGolden, maxError } from '../goldens.js';

const ids = ['beam_search_v7t6b4', 'beam_search_v12t10b4', 'beam_search_v30t16b3'];

interface Case {
  V: number;
  max_steps: number;
  beam: number;
  alpha: number;
  bos: number;
  eos: number;
}

function load(id: string) {
  const golden = loadGolden(id);
  const params = golden.manifest.params as unknown as Case;
  const table = golden.tensor('in.logits').data;
  const { V, bos, eos, alpha, beam } = params;
  /** Logits depend on the step and the last token only. */
  const scorer: BeamScorer = ({ index, tokens }) => {
    const logits = new Float64Array(tokens.length * V);
    tokens.forEach((token, row) => {
      const start = (index * V + token) * V;
      logits.set(table.subarray(start, start + V), row * V);
    });
    return logits;
  };
  return { golden, params, options: { scorer, bos, eos, alpha, beam, maxSteps: params.max_steps } };
}

/** Expected hypotheses; empty places of the table (score -1e7) are not hypotheses. */
function expected(golden: ReturnType<typeof loadGolden>, name: string, pad: number) {
  const { shape, data } = golden.tensor(`out.${name}_seq`);
  const scores = golden.tensor(`out.${name}_score`).data;
  return Array.from({ length: shape[0] }, (_, i) => ({
    tokens: Array.from(data.subarray(i * shape[1], (i + 1) * shape[1])).filter((t) => t !== pad),
    score: scores[i],
  })).filter(({ score }) => score > -1e6);
}

function compare(found: Hypothesis[], wanted: ReturnType<typeof expected>): void {
  expect(found.map(({ tokens }) => tokens)).toEqual(wanted.map(({ tokens }) => tokens));
  const error = maxError(
    found.map(({ score }) => score),
    wanted.map(({ score }) => score),
  );
  expect(error).toBeLessThan(1e-9);
}

describe('beamSearch against third-party results', () => {
  test.each(ids)('%s, tensor2tensor, both ways to stop', async (id) => {
    const { golden, params, options } = load(id);
    for (const [name, stopEarly] of [
      ['t2t_stop_early', true],
      ['t2t_full', false],
    ] as const) {
      const [found] = await beamSearch({ ...options, nBest: params.beam, stopEarly });
      compare(found, expected(golden, name, 0));
      expect(found.every(({ finished }) => finished)).toBe(true);
    }
  });

  test.each(ids)('%s, OpenNMT, one and all of the beam', async (id) => {
    const { golden, params, options } = load(id);
    for (const nBest of [1, params.beam]) {
      const [found] = await beamSearch({ ...options, nBest, convention: 'opennmt' });
      compare(found, expected(golden, `onmt_nbest${nBest}`, -1));
    }
  });

  test.each(ids)('%s, a beam of one without penalty is greedy search', async (id) => {
    const { golden, options } = load(id);
    const greedy = { ...options, beam: 1, alpha: 0, convention: 'opennmt' } as const;
    const [[found]] = await beamSearch(greedy);
    expect(found.tokens).toEqual([...golden.tensor('out.greedy_seq').data]);
    expect(found.logProbability).toBeCloseTo(golden.tensor('out.greedy_logp').data[0], 9);
  });

  test('a beam wider than the tree finds what enumeration finds', async () => {
    const { golden, options } = load(ids[0]);
    const [[found]] = await beamSearch({ ...options, beam: 1100, stopEarly: false });
    expect(found.tokens).toEqual([...golden.tensor('out.exhaustive_seq').data]);
    expect(found.score).toBeCloseTo(golden.tensor('out.exhaustive_score').data[0], 9);
  });
});

describe('beamSearch', () => {
  const { options } = load(ids[2]);

  test('parents, tokens and prefixes describe the same rows to a scorer with state', async () => {
    let states: number[][] = [];
    let steps = 0;
    const scorer: BeamScorer = async (step) => {
      const { index, tokens, parents, prefix } = step;
      const first = index === 0;
      states = Array.from(parents, (parent, row) =>
        first ? [] : [...states[parent], tokens[row]],
      );
      const living = states.filter((state, row) => {
        const known = prefix(row);
        return known.length === 0 || JSON.stringify(known) === JSON.stringify(state);
      });
      expect(living.length).toBe(parents.length);
      steps++;
      return options.scorer(step);
    };
    const found = await beamSearch({ ...options, scorer });
    expect(found).toEqual(await beamSearch(options));
    expect(steps).toBeGreaterThan(3);
  });

  test('a sentence gets the same result alone and beside others, of whatever length', async () => {
    /** Sentence s reads the table with its tokens rotated, so that all sentences differ. */
    const { V, golden } = { V: 30, golden: load(ids[2]).golden };
    const table = golden.tensor('in.logits').data;
    const scorerOf =
      (sentences: number[]): BeamScorer =>
      ({ index, tokens }) => {
        const beam = tokens.length / sentences.length;
        const logits = new Float64Array(tokens.length * V);
        tokens.forEach((token, row) => {
          const turned = (token + sentences[Math.floor(row / beam)] * 7) % V;
          const start = (index * V + turned) * V;
          logits.set(table.subarray(start, start + V), row * V);
        });
        return logits;
      };
    const sentences = [0, 1, 2, 3];
    const together = await beamSearch({ ...options, scorer: scorerOf(sentences), batch: 4 });
    for (const s of sentences) {
      const [alone] = await beamSearch({ ...options, scorer: scorerOf([s]) });
      expect(together[s]).toEqual(alone);
    }
  });

  test('without any finished sequence the best living one is returned and says so', async () => {
    const scorer: BeamScorer = ({ tokens }) => {
      const logits = new Float32Array(tokens.length * 4);
      for (let row = 0; row < tokens.length; row++) {
        logits.set([0, Number.NEGATIVE_INFINITY, 1, 0], row * 4);
      }
      return logits;
    };
    const [[found]] = await beamSearch({ scorer, bos: 0, eos: 1, maxSteps: 5 });
    expect(found.tokens).toEqual([2, 2, 2, 2, 2]);
    expect(found.finished).toBe(false);
    expect(found.logProbability).toBeCloseTo(5 * Math.log(Math.E / (Math.E + 2)), 6);
  });

  test('bad options, NaN, wrong sizes and an aborted signal are typed errors', async () => {
    const run = (more: object) => beamSearch({ ...options, ...more });
    await expect(run({ beam: 0 })).rejects.toThrow(/'beam' is 0/);
    await expect(run({ maxSteps: Number.NaN })).rejects.toThrow(/'maxSteps' is NaN/);
    await expect(run({ nBest: 9 })).rejects.toThrow(/'nBest' is 9.*beam, 3/);
    await expect(run({ alpha: Number.NaN })).rejects.toThrow(/'alpha' is NaN/);
    await expect(run({ convention: 'x' })).rejects.toThrow(/'convention' is 'x'/);
    await expect(run({ scorer: () => new Float32Array(6).fill(Number.NaN) })).rejects.toThrow(
      /NaN/,
    );
    await expect(run({ scorer: () => new Float32Array(7) })).rejects.toMatchObject({
      code: 'ERR_SHAPE',
    });
    await expect(run({ signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    });
  });
});
