import { device, matmul, normal, type Tensor } from 'longspan';
import { type BenchCase, defineBench } from '../harness/case.js';

function product(
  m: number,
  n: number,
  k: number,
  threads: number | undefined,
  dtype: 'f32' | 'bf16',
): BenchCase {
  return {
    operator: 'matmul',
    shape: `${dtype} ${m} x ${k} x ${n}`,
    ...(threads === undefined ? {} : { threads }),
    flops: 2 * m * n * k,
    prepare() {
      const a = normal([m, k]).to(dtype) as Tensor;
      const b = normal([k, n]).to(dtype) as Tensor;
      return {
        run: () => matmul(a, b).dispose(),
        finish: () => device('cpu').synchronize(),
        dispose() {
          a.dispose();
          b.dispose();
        },
      };
    },
  };
}

export default defineBench({
  name: 'matmul',
  cases: () => [
    product(1024, 1024, 1024, 1, 'f32'),
    product(1024, 1024, 1024, undefined, 'f32'),
    product(1024, 1024, 1024, undefined, 'bf16'),
    product(2048, 2048, 2048, undefined, 'f32'),
    product(4096, 768, 256, undefined, 'f32'),
    product(4096, 256, 1024, undefined, 'f32'),
  ],
});
