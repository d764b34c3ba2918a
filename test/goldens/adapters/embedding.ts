import { embedding, mul } from 'longspan';
import { type Adapter, gradientsOf } from '../adapter.js';

/** Rows as they are, and with row 0 as padding, scaled by the root of the width. */
export const embeddings: Adapter = {
  mechanism: 'embedding',
  single: true,
  run(inputs) {
    const table = inputs.leaf('in.table');
    const [ids, up] = [inputs.tensor('in.ids'), inputs.tensor('up.y')];
    const y = embedding(table, ids);
    const padded = mul(embedding(table, ids, { paddingIndex: 0 }), Math.sqrt(table.dim(1)));
    return {
      'out.y': y,
      'out.y_scaled_padded': padded,
      ...gradientsOf([[y, up]], { 'grad.table': table }),
      ...gradientsOf([[padded, up]], { 'grad.table_padidx0': table }),
    };
  },
};
