import { type Tensor, transpose } from 'longspan';
import { type Activation, activations, throughActivation } from '#lib/dense/activation-backward';
import { expectClose, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda } from '../support/devices.js';
import { Random } from '../support/random.js';

const inputs = (shape: number[]) => {
  const random = new Random(1);
  return [0, 1].map(() => ({ values: random.normal(shape.reduce((n, d) => n * d, 1)), shape }));
};

const through =
  (activation: Activation, wantBias: boolean) =>
  (grad: Tensor, kept: Tensor): Tensor[] => {
    const { product, bias } = throughActivation(
      grad,
      activation === 'none' ? undefined : kept,
      activation,
      wantBias,
    );
    return [...(activation === 'none' ? [] : [product]), ...(bias ? [bias] : [])];
  };

test('the gradient of a bias is the sum over rows', () => {
  const [u] = inputs([300, 5]) as [{ values: Float64Array; shape: number[] }];
  const grad = tensorOf(u.values, u.shape, 'f64');
  const [bias] = through('none', true)(grad, grad) as [Tensor];
  const expected = [0, 1, 2, 3, 4].map((j) =>
    values(grad).reduce((sum, x, i) => (i % 5 === j ? sum + x : sum), 0),
  );
  expectClose(bias, expected, { absolute: 1e-12 });
});

describeCuda('on cuda', () => {
  test.each(activations)('%s', (activation) => {
    for (const wantBias of activation === 'none' ? [true] : [true, false]) {
      const run = through(activation, wantBias);
      for (const shape of [[50, 72], [7, 3], [5], [300, 1], [2, 3, 130], [0, 4]]) {
        compareDevices(run, inputs(shape), { factor: 3, f32Tolerance: 1e-5 });
      }
      compareDevices((u, x) => run(transpose(u), transpose(x)), inputs([12, 33]), { factor: 3 });
    }
  });
});
