import {
  geglu,
  gelu,
  glu,
  relu,
  reluSquared,
  sigmoid,
  silu,
  softplus,
  swiglu,
  type Tensor,
  tanh,
} from 'longspan';
import { type Adapter, type Computed, gradientsOf } from '../adapter.js';

const full: Record<string, (x: Tensor) => Tensor> = {
  gelu_erf: (x) => gelu(x),
  gelu_tanh: (x) => gelu(x, { approximate: 'tanh' }),
  gelu_minGPT: (x) => gelu(x, { approximate: 'tanh' }),
  relu,
  sq_relu: reluSquared,
  silu,
  sigmoid,
  tanh,
  softplus,
};

/** Of n values the first half is one operand, the second the other. */
const gated: Record<string, (x: Tensor) => Tensor> = {
  glu: (x) => glu(x),
  swiglu: (x) => swiglu(x),
  geglu: (x) => geglu(x),
};

export const activations: Adapter = {
  mechanism: 'activations',
  single: true,
  run(inputs) {
    const x = inputs.leaf('in.x');
    const computed: Computed = {};
    for (const [upstream, functions] of [
      ['in.up_all', full],
      ['in.up_half', gated],
    ] as const) {
      for (const [name, apply] of Object.entries(functions)) {
        const y = apply(x);
        const gradients = gradientsOf([[y, inputs.tensor(upstream)]], { [`grad.x_${name}`]: x });
        const shape = inputs.has(`out.${name}`) ? inputs.host(`out.${name}`).shape : y.shape;
        Object.assign(computed, gradients, { [`out.${name}`]: y.reshape(...shape) });
      }
    }
    return computed;
  },
};
