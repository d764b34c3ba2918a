import { attention, gradients, normal, type Tensor } from 'longspan';
import { addon } from '#lib/native';
import { type BenchCase, type BenchContext, defineBench } from '../harness/case.js';
import { ortAttention } from '../peers/ort.js';

interface Shape {
  heads: number;
  n: number;
  d: number;
  causal: boolean;
  dtype: 'f32' | 'bf16';
}

const label = ({ heads, n, d, causal, dtype }: Shape) =>
  `${dtype} B1 H${heads} N${n} D${d}${causal ? ' causal' : ''}`;

/** Arithmetic of the pairs that a query sees. */
const forwardFlops = ({ heads, n, d, causal }: Shape) => (4 * heads * n * n * d) / (causal ? 2 : 1);

/** Inputs lie as onnxruntime takes them, [1, N, H, D]. */
function inputs(
  { device }: BenchContext,
  { heads, n, d, dtype }: Shape,
  requiresGrad: boolean,
): [Tensor, Tensor, Tensor] {
  const make = () => normal([1, n, heads, d], { device, dtype }).requireGrad(requiresGrad);
  return [make(), make(), make()];
}

function forward(context: BenchContext, shape: Shape, threads?: number): BenchCase {
  return {
    operator: 'attention',
    shape: label(shape),
    ...(threads === undefined ? {} : { threads }),
    flops: forwardFlops(shape),
    dtype: shape.dtype,
    prepare() {
      const [q, k, v] = inputs(context, shape, false);
      return {
        run: () => attention(q, k, v, { causal: shape.causal, layout: 'bnhd' }).dispose(),
        dispose: () => [q, k, v].forEach((t) => void t.dispose()),
      };
    },
    ...(context.device.type === 'cpu' &&
      !context.smoke && {
        peer: ortAttention({
          length: shape.n,
          heads: shape.heads,
          dim: shape.d,
          threads: threads ?? addon.info().threads,
          causal: shape.causal,
        }),
      }),
  };
}

function both(context: BenchContext, shape: Shape): BenchCase {
  return {
    operator: 'attention + backward',
    shape: label(shape),
    flops: 3.5 * forwardFlops(shape),
    dtype: shape.dtype,
    prepare() {
      const leaves = inputs(context, shape, true);
      const { n, heads, d, dtype } = shape;
      const upstream = normal([1, n, heads, d], { device: context.device, dtype });
      return {
        run() {
          const y = attention(...leaves, { causal: shape.causal, layout: 'bnhd' });
          for (const g of gradients([y], leaves, { gradients: [upstream] })) g?.dispose();
          y.dispose();
        },
        dispose: () => [...leaves, upstream].forEach((t) => void t.dispose()),
      };
    },
  };
}

const onCpu = (context: BenchContext): BenchCase[] => {
  const shape = (n: number, causal: boolean, d = 64): Shape => ({
    ...{ heads: 512 / d, n, d, causal, dtype: 'f32' },
  });
  return [
    forward(context, shape(2048, false)),
    forward(context, shape(2048, true)),
    forward(context, shape(2048, false), 1),
    forward(context, shape(4096, false)),
    forward(context, shape(4096, true)),
    forward(context, shape(2048, false, 128)),
    forward(context, shape(2048, true, 128)),
    forward(context, shape(512, false)),
    forward(context, shape(512, true)),
    both(context, shape(2048, false)),
    both(context, shape(2048, true)),
    both(context, shape(4096, false)),
    both(context, shape(512, false)),
    both(context, shape(512, true)),
  ];
};

/** 2048 channels in all, as `bench/peers/torch_gpu.py` takes them. */
const onGpu = (context: BenchContext): BenchCase[] => {
  const n = context.smoke ? 40 : 8192;
  const channels = context.smoke ? 64 : 2048;
  return [64, 128].flatMap((d) =>
    [false, true].flatMap((causal) => {
      const shape = { heads: Math.max(1, channels / d), n, d, causal, dtype: 'bf16' } as const;
      return [forward(context, shape), both(context, shape)];
    }),
  );
};

export default defineBench({
  name: 'attention',
  cases: (context) =>
    context.device.type === 'cpu' && !context.smoke ? onCpu(context) : onGpu(context),
});
