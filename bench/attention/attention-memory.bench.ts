/** Memory of forward and backward against the length, beside the formula that stores all scores. */
import {
  attention,
  type CurveOptions,
  gradients,
  matmul,
  mul,
  normal,
  softmax,
  type Tensor,
  tidy,
  transpose,
} from 'longspan';
import { type BenchCase, type BenchContext, defineBench } from '../harness/case.js';

const d = 64;

type Attend = (q: Tensor, k: Tensor, v: Tensor) => Tensor;
const ways: Record<string, Attend> = {
  tiled: (q, k, v) => attention(q, k, v),
  naive: (q, k, v) => matmul(softmax(mul(matmul(q, transpose(k)), d ** -0.5)), v),
};
const operatorOf = (way: string) => `attention, ${way}`;

function forwardAndBackward({ device }: BenchContext, way: string, n: number): BenchCase {
  const dtype = device.type === 'cuda' ? 'bf16' : 'f32';
  const shape = [1, 1, n, d];
  return {
    operator: operatorOf(way),
    shape: `${dtype} forward + backward B1 H1 N${n} D${d}`,
    flops: 3.5 * 4 * n * n * d,
    dtype,
    prepare() {
      const make = () => normal(shape, { device, dtype });
      const leaves = [make(), make(), make()].map((t) => t.requireGrad()) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const upstream = make();
      const keep = () =>
        tidy(() => {
          const y = (ways[way] as Attend)(...leaves);
          return [y, ...(gradients([y], leaves, { gradients: [upstream] }) as Tensor[])];
        });
      return {
        run: () => keep().forEach((t) => void t.dispose()),
        keep,
        dispose: () => [...leaves, upstream].forEach((t) => void t.dispose()),
      };
    },
  };
}

export default defineBench({
  name: 'attention-memory',
  cases(context) {
    const lengths = context.smoke ? [16, 32] : [512, 1024, 2048, 4096, 8192, 16384];
    return Object.keys(ways).flatMap((way) =>
      lengths
        .filter((n) => way === 'tiled' || n <= 4096) // the others would take gigabytes
        .map((n) => forwardAndBackward(context, way, n)),
    );
  },
  pictures(rows, { device }): Record<string, CurveOptions> {
    const memory = {
      title: 'Most memory of attention, forward and backward',
      subtitle: `one head of ${d}, ${device.type === 'cuda' ? 'bf16' : 'f32'}, on ${device.name}`,
      xLabel: 'tokens',
      yLabel: 'MB',
      logX: true,
      logY: true,
      series: Object.keys(ways).map((name) => {
        const own = rows.filter(({ operator }) => operator === operatorOf(name));
        return {
          name,
          x: own.map(({ shape }) => Number(/ N(\d+)/.exec(shape)?.[1])),
          y: own.map(({ peakBytes = 0 }) => peakBytes / 1e6),
        };
      }),
    };
    return { 'attention-memory': memory };
  },
});
