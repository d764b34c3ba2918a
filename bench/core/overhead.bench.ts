/** What a call costs on the JavaScript thread: packing, validation, allocation of outputs, enqueuing. */
import { attention, device, noGrad, normal, releaseGraph, type Tensor } from 'longspan';
import { type BenchCase, defineBench, type Prepared } from '../harness/case.js';

/** Times enqueuing alone: few enough calls that the queue never fills, on tensors too small to matter. */
function enqueueOnly(call: () => Tensor): Prepared {
  const calls = 500;
  const finish = () => device('cpu').synchronize();
  return {
    run: () => call().dispose(),
    finish,
    async sample() {
      const results: Tensor[] = [];
      const start = performance.now();
      for (let i = 0; i < calls; i++) results.push(call());
      const seconds = (performance.now() - start) / 1e3 / calls;
      releaseGraph(results);
      for (const t of results) t.dispose();
      await finish();
      return seconds;
    },
  };
}

function attentionCall(recorded: boolean): Prepared {
  const [q, k, v] = Array.from({ length: 3 }, () => normal([1, 1, 4, 8])) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  if (recorded) for (const t of [q, k, v]) t.requireGrad();
  const options = { causal: true, scale: 0.5 } as const;
  const call = recorded
    ? () => attention(q, k, v, options)
    : () => noGrad(() => attention(q, k, v, options));
  const prepared = enqueueOnly(call);
  let warm = false;
  return {
    ...prepared,
    async sample() {
      // Tens of thousands of calls go by before the compiler has settled.
      for (let i = warm ? 0 : 60; i > 0; i--) await prepared.sample?.();
      warm = true;
      return prepared.sample?.() ?? Number.NaN;
    },
  };
}

export default defineBench({
  name: 'overhead',
  cases: (): BenchCase[] => [
    { operator: 'attention call', shape: 'enqueued', prepare: () => attentionCall(false) },
    {
      operator: 'attention call',
      shape: 'enqueued, with the tape',
      prepare: () => attentionCall(true),
    },
  ],
});
