import { matmul, normal } from 'longspan';
import { type BenchCase, type BenchContext, defineBench } from '../harness/case.js';

type Precision = 'f32' | 'f16' | 'bf16' | 'tf32';

function product(
  { device }: BenchContext,
  [m, n, k]: readonly [number, number, number],
  precision: Precision,
  threads?: number,
): BenchCase {
  const dtype = precision === 'tf32' ? 'f32' : precision;
  const options = precision === 'tf32' ? { allowTf32: true } : {};
  return {
    operator: 'matmul',
    shape: `${precision} ${m} x ${k} x ${n}`,
    ...(threads === undefined ? {} : { threads }),
    flops: 2 * m * n * k,
    dtype,
    prepare() {
      const a = normal([m, k], { dtype, device });
      const b = normal([k, n], { dtype, device });
      return {
        run: () => matmul(a, b, options).dispose(),
        dispose() {
          a.dispose();
          b.dispose();
        },
      };
    },
  };
}

const onCpu = (context: BenchContext): BenchCase[] => [
  product(context, [1024, 1024, 1024], 'f32', 1),
  product(context, [1024, 1024, 1024], 'f32'),
  product(context, [1024, 1024, 1024], 'bf16'),
  product(context, [2048, 2048, 2048], 'f32'),
  product(context, [4096, 768, 256], 'f32'),
  product(context, [4096, 256, 1024], 'f32'),
];

const onGpu = (context: BenchContext): BenchCase[] => {
  const square = (n: number, precision: Precision) => product(context, [n, n, n], precision);
  return [
    ...(['bf16', 'f16', 'f32', 'tf32'] as const).flatMap((precision) => [
      square(4096, precision),
      square(8192, precision),
    ]),
    product(context, [16, 4096, 4096], 'bf16'), // a decoding step of 16 sequences
    product(context, [8192, 3072, 768], 'bf16'),
  ];
};

const tiny = (context: BenchContext): BenchCase[] =>
  (['bf16', 'f16', 'f32', 'tf32'] as const).map((p) => product(context, [48, 40, 32], p));

export default defineBench({
  name: 'matmul',
  cases: (context) =>
    context.smoke ? tiny(context) : context.device.type === 'cpu' ? onCpu(context) : onGpu(context),
});
