import { type BeamScorer, type BeamSearchOptions, beamSearch, type Hypothesis } from 'longspan';
import type { Adapter, CaseInputs, Computed } from '../adapter.js';

interface Params {
  V: number;
  max_steps: number;
  beam: number;
  alpha: number;
  bos: number;
  eos: number;
}

/** Logits [step, previous token, token] depend on the step and the last token only. */
function scorerOf(inputs: CaseInputs): BeamScorer {
  const { V } = inputs.params<Params>();
  const table = inputs.host('in.logits').data;
  return ({ index, tokens }) => {
    const logits =
      inputs.dtype === 'f64'
        ? new Float64Array(tokens.length * V)
        : new Float32Array(tokens.length * V);
    tokens.forEach((token, row) => {
      const start = (index * V + token) * V;
      logits.set(table.subarray(start, start + V), row * V);
    });
    return logits;
  };
}

/** Sequences as the cases write them: one row each, filled with `pad`; empty places score -1e7. */
function tabulate(found: readonly Hypothesis[], [rows, columns]: number[], pad: number) {
  const tokens = Array.from({ length: rows }, (_, i) => {
    const row = found[i]?.tokens ?? [];
    return Array.from({ length: columns }, (_, t) => row[t] ?? pad);
  });
  const scores = Array.from({ length: rows }, (_, i) => found[i]?.score ?? -1e7);
  return { tokens: tokens.flat(), scores };
}

/** Every variant of the case; `exhaustive` is a beam wider than the tree of all sequences. */
export const beamSearches: Adapter = {
  mechanism: 'beam_search',
  async run(inputs) {
    const { beam, alpha, bos, eos, max_steps: maxSteps } = inputs.params<Params>();
    const search = async (options: Partial<BeamSearchOptions>): Promise<Hypothesis[]> => {
      const shared = { scorer: scorerOf(inputs), bos, eos, alpha, beam, maxSteps };
      return (await beamSearch({ ...shared, ...options }))[0];
    };
    const computed: Computed = {};
    const put = (name: string, found: readonly Hypothesis[], pad: number): void => {
      const { tokens, scores } = tabulate(found, inputs.host(`out.${name}_seq`).shape, pad);
      computed[`out.${name}_seq`] = tokens;
      computed[`out.${name}_score`] = scores;
    };
    put('t2t_stop_early', await search({ nBest: beam, stopEarly: true }), 0);
    put('t2t_full', await search({ nBest: beam, stopEarly: false }), 0);
    for (const nBest of [1, beam]) {
      put(`onmt_nbest${nBest}`, await search({ nBest, convention: 'opennmt' }), -1);
    }
    const [greedy] = await search({ beam: 1, alpha: 0, convention: 'opennmt' });
    computed['out.greedy_seq'] = greedy.tokens;
    computed['out.greedy_logp'] = [greedy.logProbability];
    if (inputs.has('out.exhaustive_seq')) {
      const [best] = await search({ beam: 1100, stopEarly: false });
      computed['out.exhaustive_seq'] = best.tokens;
      computed['out.exhaustive_score'] = [best.score];
    }
    return computed;
  },
};
