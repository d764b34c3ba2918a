/** matmul on a GPU against the CPU; test/dense/matmul.test.ts holds the CPU against the twin. */
import {
  type Activation,
  device,
  gradients,
  matmul,
  slice,
  type Tensor,
  transpose,
} from 'longspan';
import { matmulTwin } from '../reference/matmul.js';
import { rounded, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda } from '../support/devices.js';
import { Random } from '../support/random.js';

const random = (seed: number, shape: readonly number[]) =>
  new Random(seed).normal(shape.reduce((n, d) => n * d, 1));
const activationNames: Activation[] = ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'reluSquared'];

describeCuda('matmul on cuda', () => {
  const inputs = (...shapes: number[][]) =>
    shapes.map((shape, i) => ({ values: random(i + 1, shape), shape }));

  test.each([
    [
      [1, 239],
      [239, 1],
    ],
    [
      [1, 239],
      [239, 300],
    ],
    [
      [113, 203],
      [203, 67],
    ],
    [
      [130, 64],
      [64, 136],
    ],
    [
      [799, 3],
      [3, 5],
    ],
    [
      [16, 2600],
      [2600, 48],
    ],
    // Enough tiles for the kernels that stay on their multiprocessors.
    [
      [264, 200],
      [200, 392],
    ],
    [
      [3, 130, 72],
      [3, 72, 267],
    ],
    [
      [2, 3, 7, 19],
      [2, 3, 19, 65],
    ],
    [
      [2, 1, 7, 24],
      [3, 24, 32],
    ],
    [
      [9, 21],
      [4, 21, 70],
    ],
    [
      [3, 0],
      [0, 4],
    ],
    [
      [0, 3],
      [3, 4],
    ],
  ])('%j x %j', (shapeA, shapeB) => {
    compareDevices((a, b) => matmul(a, b), inputs(shapeA, shapeB), { f32Tolerance: 1e-5 });
  });

  test('views: transposed, sliced, reversed batch axes', () => {
    compareDevices((a, b) => matmul(transpose(a), transpose(b)), inputs([80, 72], [96, 80]), {
      f32Tolerance: 1e-5,
    });
    compareDevices(
      (a, b) => matmul(slice(a, 1, 3, 40), transpose(slice(b, 1, 0, 37))),
      inputs([33, 50], [20, 41]),
      { f32Tolerance: 1e-5 },
    );
    compareDevices((a, b) => matmul(transpose(a, 0, 1), b), inputs([6, 4, 40], [4, 40, 24]), {
      f32Tolerance: 1e-5,
    });
  });

  test.each(activationNames)('bias and %s', (activation) => {
    compareDevices(
      (a, b, bias) => matmul(a, b, { bias, activation }),
      inputs([37, 72], [72, 83], [83]),
      { f32Tolerance: 1e-5 },
    );
  });

  test('gradients, batch axes that are broadcast and do not merge included', () => {
    compareDevices(
      (a, b, g) => {
        const [x, y] = [a.requireGrad(), b.requireGrad()];
        return gradients([matmul(transpose(x, 0, 1), y)], [x, y], { gradients: [g] }) as Tensor[];
      },
      inputs([6, 3, 40], [40, 24], [3, 6, 24]),
      { f32Tolerance: 1e-5, factor: 3 },
    );
  });

  test('gradients of a product that fills tiles', () => {
    compareDevices(
      (a, b, bias, g) => {
        const inputs = [a, b, bias].map((t) => t.requireGrad()) as [Tensor, Tensor, Tensor];
        const y = matmul(inputs[0], inputs[1], { bias: inputs[2], activation: 'gelu' });
        return gradients([y], inputs, { gradients: [g] }) as Tensor[];
      },
      inputs([200, 264], [264, 328], [328], [200, 328]),
      { f32Tolerance: 1e-5, factor: 3 },
    );
  });

  test('tf32 is less exact than f32, and only where it is allowed', () => {
    const shapeA = [64, 128];
    const shapeB = [128, 64];
    const [a, b] = [rounded(random(1, shapeA), 'f32'), rounded(random(2, shapeB), 'f32')];
    const exact = matmulTwin({ values: a, shape: shapeA }, { values: b, shape: shapeB }).values;
    const error = (allowTf32: boolean) => {
      const on = device('cuda');
      const x = tensorOf(a, shapeA, 'f32').to(on);
      const y = tensorOf(b, shapeB, 'f32').to(on);
      const actual = values(matmul(x, y, { allowTf32 }));
      return actual.reduce((most, v, i) => Math.max(most, Math.abs(v - (exact[i] as number))), 0);
    };
    expect(error(false)).toBeLessThan(2e-5);
    expect(error(true)).toBeGreaterThan(1e-4);
    expect(error(true)).toBeLessThan(5e-2);
  });
});
