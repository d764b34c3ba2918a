/**
 * What a call costs the JavaScript thread: packing, validation, the output's allocation, enqueuing.
 * Calls come in batches far below the queue's bound, on tensors too small to matter; between batches
 * the queue empties and results are disposed, untimed. A sample is the median batch.
 */
import { attention, type Device, noGrad, normal, releaseGraph, type Tensor } from 'longspan';
import { type BenchCase, type BenchContext, defineBench, type Prepared } from '../harness/case.js';
import { median } from '../harness/statistics.js';

const callsPerBatch = 200;

async function batch(device: Device, call: () => Tensor, recorded: boolean): Promise<number> {
  const results: Tensor[] = [];
  const start = performance.now();
  for (let i = 0; i < callsPerBatch; i++) results.push(call());
  const seconds = (performance.now() - start) / 1e3 / callsPerBatch;
  await device.synchronize();
  if (recorded) releaseGraph(results);
  for (const t of results) t.dispose();
  return seconds;
}

function enqueueOnly(
  { device, smoke }: BenchContext,
  call: () => Tensor,
  recorded: boolean,
): Prepared {
  let batches = smoke ? 1 : 500; // the compiler settles after tens of thousands of calls
  return {
    run: () => call().dispose(),
    async sample() {
      const seconds: number[] = [];
      for (let i = 0; i < batches; i++) seconds.push(await batch(device, call, recorded));
      batches = smoke ? 1 : 100;
      return median(seconds);
    },
  };
}

function attentionCall(context: BenchContext, recorded: boolean): Prepared {
  const { device } = context;
  const [q, k, v] = Array.from({ length: 3 }, () => normal([1, 1, 4, 8], { device })) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  if (recorded) for (const t of [q, k, v]) t.requireGrad();
  const options = { causal: true, scale: 0.5 } as const;
  const call = recorded
    ? () => attention(q, k, v, options)
    : () => noGrad(() => attention(q, k, v, options));
  return enqueueOnly(context, call, recorded);
}

export default defineBench({
  name: 'overhead',
  cases: (context): BenchCase[] => [
    {
      operator: 'attention call',
      shape: 'JS thread, per call of a batch',
      prepare: () => attentionCall(context, false),
    },
    {
      operator: 'attention call',
      shape: 'JS thread, per call of a batch, tape',
      prepare: () => attentionCall(context, true),
    },
  ],
});
