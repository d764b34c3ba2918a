/**
 * What a call costs the JavaScript thread: packing, validation, the output's allocation, enqueuing.
 * Calls come in batches far below the queue's bound, on tensors too small to matter; between batches
 * the queue empties and results are disposed, untimed. A sample is the median batch.
 */
import { attention, device, noGrad, normal, releaseGraph, type Tensor } from 'longspan';
import { type BenchCase, defineBench, type Prepared } from '../harness/case.js';
import { median } from '../harness/statistics.js';

const callsPerBatch = 200;

async function batch(call: () => Tensor, recorded: boolean): Promise<number> {
  const results: Tensor[] = [];
  const start = performance.now();
  for (let i = 0; i < callsPerBatch; i++) results.push(call());
  const seconds = (performance.now() - start) / 1e3 / callsPerBatch;
  await device('cpu').synchronize();
  if (recorded) releaseGraph(results);
  for (const t of results) t.dispose();
  return seconds;
}

function enqueueOnly(call: () => Tensor, recorded: boolean): Prepared {
  let batches = 500; // the compiler settles after tens of thousands of calls
  return {
    run: () => call().dispose(),
    finish: () => device('cpu').synchronize(),
    async sample() {
      const seconds: number[] = [];
      for (let i = 0; i < batches; i++) seconds.push(await batch(call, recorded));
      batches = 100;
      return median(seconds);
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
  return enqueueOnly(call, recorded);
}

export default defineBench({
  name: 'overhead',
  cases: (): BenchCase[] => [
    {
      operator: 'attention call',
      shape: 'JS thread, per call of a batch',
      prepare: () => attentionCall(false),
    },
    {
      operator: 'attention call',
      shape: 'JS thread, per call of a batch, tape',
      prepare: () => attentionCall(true),
    },
  ],
});
