import * as longspan from 'longspan';
import { embedding, mul, type Tensor, tensor } from 'longspan';
import { type Golden, loadGolden } from '../goldens.js';
import { expectClose, tensorOf } from '../support/compare.js';

type Precision = 'f64' | 'f32';

function compare(golden: Golden, name: string, actual: Tensor, dtype: Precision): void {
  const atol = golden.manifest.tensors[name]?.atol?.[dtype];
  if (atol === undefined) throw new Error(`${name} states no tolerance for ${dtype}`);
  expectClose(actual, golden.tensor(name).data, { absolute: atol }, `${name} in ${dtype}`);
}

describe.each(['f64', 'f32'] as const)('in %s', (dtype) => {
  test('activations_n400', () => {
    const golden = loadGolden('activations_n400');
    const pointwise: Record<string, (x: Tensor) => Tensor> = {
      gelu_erf: (x) => longspan.gelu(x),
      gelu_tanh: (x) => longspan.gelu(x, { approximate: 'tanh' }),
      gelu_minGPT: (x) => longspan.gelu(x, { approximate: 'tanh' }),
      relu: longspan.relu,
      sq_relu: longspan.reluSquared,
      silu: longspan.silu,
      sigmoid: longspan.sigmoid,
      tanh: longspan.tanh,
      softplus: longspan.softplus,
      glu: longspan.glu,
      swiglu: longspan.swiglu,
      geglu: longspan.geglu,
    };
    for (const [name, operator] of Object.entries(pointwise)) {
      const x = tensorOf(golden.tensor('in.x').data, [398], dtype).requireGrad();
      const y = operator(x);
      compare(golden, `out.${name}`, y, dtype);
      const up = golden.tensor(y.size === 398 ? 'in.up_all' : 'in.up_half').data;
      y.backward({ gradient: tensorOf(up, y.shape, dtype) });
      compare(golden, `grad.x_${name}`, x.grad as Tensor, dtype);
    }
  });

  test('embedding_v11', () => {
    const golden = loadGolden('embedding_v11');
    const at = tensor(Int32Array.from(golden.tensor('in.ids').data), { shape: [3, 7] });
    const up = tensorOf(golden.tensor('up.y').data, [3, 7, 6], dtype);
    const table = () => tensorOf(golden.tensor('in.table').data, [11, 6], dtype).requireGrad();
    const plain = table();
    const y = embedding(plain, at);
    compare(golden, 'out.y', y, dtype);
    y.backward({ gradient: up });
    compare(golden, 'grad.table', plain.grad as Tensor, dtype);
    const padded = table();
    const scaled = mul(embedding(padded, at, { paddingIndex: 0 }), Math.sqrt(6));
    compare(golden, 'out.y_scaled_padded', scaled, dtype);
    scaled.backward({ gradient: up });
    compare(golden, 'grad.table_padidx0', padded.grad as Tensor, dtype);
  });
});
