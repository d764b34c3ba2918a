/** Operators whose time is that of their bytes. */
import { add, device, gelu, layerNorm, normal, ones, softmax, type Tensor, zeros } from 'longspan';
import { type BenchCase, defineBench } from '../harness/case.js';

function over(
  operator: string,
  rows: number,
  columns: number,
  passes: number,
  call: (x: Tensor) => Tensor,
): BenchCase {
  return {
    operator,
    shape: `f32 ${rows} x ${columns}`,
    bytes: passes * 4 * rows * columns,
    prepare() {
      const x = normal([rows, columns]);
      return {
        run: () => call(x).dispose(),
        finish: () => device('cpu').synchronize(),
        dispose: () => x.dispose(),
      };
    },
  };
}

export default defineBench({
  name: 'memory-bound',
  cases() {
    const [weight, bias] = [ones([1024]), zeros([1024])];
    return [
      over('add', 8192, 1024, 3, (x) => add(x, x)),
      over('gelu', 8192, 1024, 2, (x) => gelu(x)),
      over('softmax', 8192, 1024, 2, (x) => softmax(x, -1)),
      over('layerNorm', 8192, 1024, 2, (x) => layerNorm(x, weight, bias)),
    ];
  },
});
