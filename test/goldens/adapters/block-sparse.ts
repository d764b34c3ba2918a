import { attention, BlockMask } from 'longspan';
import { type Adapter, type CaseInputs, type Computed, gradientsOf } from '../adapter.js';

interface Params {
  S: number;
  block: number;
  causal: boolean;
  scale: number;
}

/** Layouts of whole blocks per head. */
function blockSparse(inputs: CaseInputs): Computed {
  const { S: queries, block: blockSize, causal, scale } = inputs.params<Params>();
  const { device } = inputs;
  const mask = BlockMask.fromLayout(inputs.tensor('layout'), { queries, blockSize, device });
  const [q, k, v] = ['q', 'k', 'v'].map((name) => inputs.leaf(name));
  const [out, lse] = attention(q, k, v, { blockMask: mask, causal, scale, returnLse: true });
  const d = inputs.host('d_lse');
  const dLse = inputs.make(d.data, d.shape, lse.dtype === 'f64' ? 'f64' : 'f32');
  const leaves = { 'grad.q': q, 'grad.k': k, 'grad.v': v };
  const gradients = gradientsOf(
    [
      [out, inputs.tensor('d_out')],
      [lse, dLse],
    ],
    leaves,
  );
  mask.dispose();
  return { out, lse, ...gradients };
}

export const blockSparseAttention: Adapter = {
  mechanism: 'block_sparse_attention',
  single: true,
  run: blockSparse,
};
