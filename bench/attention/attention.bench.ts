import { attention, device, gradients, normal, type Tensor } from 'longspan';
import { addon } from '#lib/native';
import { type BenchCase, defineBench } from '../harness/case.js';
import { ortAttention } from '../peers/ort.js';

interface Shape {
  heads: number;
  n: number;
  d: number;
  causal: boolean;
}

const label = ({ heads, n, d, causal }: Shape) =>
  `f32 B1 H${heads} N${n} D${d}${causal ? ' causal' : ''}`;

/** Arithmetic of the pairs that a query sees. */
const forwardFlops = ({ heads, n, d, causal }: Shape) => (4 * heads * n * n * d) / (causal ? 2 : 1);

/** Inputs lie as onnxruntime takes them, [1, N, H, D]. */
function inputs({ heads, n, d }: Shape, requiresGrad: boolean): [Tensor, Tensor, Tensor] {
  const make = () => normal([1, n, heads, d]).requireGrad(requiresGrad);
  return [make(), make(), make()];
}

function forward(shape: Shape, threads: number | undefined): BenchCase {
  return {
    operator: 'attention',
    shape: label(shape),
    ...(threads === undefined ? {} : { threads }),
    flops: forwardFlops(shape),
    prepare() {
      const [q, k, v] = inputs(shape, false);
      return {
        run: () => attention(q, k, v, { causal: shape.causal, layout: 'bnhd' }).dispose(),
        finish: () => device('cpu').synchronize(),
        dispose: () => [q, k, v].forEach((t) => void t.dispose()),
      };
    },
    peer: ortAttention({
      length: shape.n,
      heads: shape.heads,
      dim: shape.d,
      threads: threads ?? addon.info().threads,
      causal: shape.causal,
    }),
  };
}

function both(shape: Shape, threads: number | undefined): BenchCase {
  return {
    operator: 'attention + backward',
    shape: label(shape),
    ...(threads === undefined ? {} : { threads }),
    flops: 3.5 * forwardFlops(shape),
    prepare() {
      const leaves = inputs(shape, true);
      const upstream = normal([1, shape.n, shape.heads, shape.d]);
      return {
        run() {
          const y = attention(...leaves, { causal: shape.causal, layout: 'bnhd' });
          for (const g of gradients([y], leaves, { gradients: [upstream] })) g?.dispose();
          y.dispose();
        },
        finish: () => device('cpu').synchronize(),
        dispose: () => [...leaves, upstream].forEach((t) => void t.dispose()),
      };
    },
  };
}

const shape = (n: number, causal: boolean, d = 64): Shape => ({ heads: 512 / d, n, d, causal });

export default defineBench({
  name: 'attention',
  cases: () => [
    forward(shape(2048, false), undefined),
    forward(shape(2048, true), undefined),
    forward(shape(2048, false), 1),
    forward(shape(2048, false, 128), undefined),
    forward(shape(512, true), undefined),
    both(shape(2048, false), undefined),
    both(shape(2048, true), undefined),
    both(shape(512, true), undefined),
  ],
});
