import { defineOperator, type Tensor, tensor } from 'longspan';
import { checkAgainstTwin, expectClose, rounded, tensorOf } from '../support/compare.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

/** Doubles through the host, with a gradient of `slope`. */
function doubling(slope: number) {
  const times = (x: Tensor, factor: number) =>
    tensor(
      Float64Array.from(x.dataSync(), (v) => v * factor),
      { shape: x.shape },
    );
  return defineOperator({
    name: 'doubling',
    forward: (_ctx, x: Tensor): Tensor => times(x, 2),
    backward: (_ctx, grad) => [grad && times(grad, slope)],
  });
}

test('finite differences accept a right gradient and refuse a wrong one', async () => {
  const x = tensorOf(new Random(3).normal(6), [2, 3], 'f64');
  await checkGradients(doubling(2), [x]);
  await expect(checkGradients(doubling(2.001), [x])).rejects.toThrow('gradient of input 0');
});

test('closeness names the worst element', () => {
  const t = tensor([
    [1, 2],
    [3, 4.5],
  ]);
  expectClose(t, [1, 2, 3, 4.5], {});
  expect(() => expectClose(t, [1, 2, 3, 4], { absolute: 0.1 })).toThrow('[1, 1]: 4.5 instead of 4');
  expect(() => expectClose([Number.NaN], [1], { absolute: 9 })).toThrow('NaN instead of 1');
  expectClose([Number.NaN, Number.POSITIVE_INFINITY], [Number.NaN, Number.POSITIVE_INFINITY], {});
});

test('the low precision rule knows a rounded result from a worse one', () => {
  const inputs = [{ values: new Random(4).normal(50), shape: [50] }];
  const same = (x: Tensor) => x.clone();
  checkAgainstTwin(same, (x) => x, inputs);
  expect(() => checkAgainstTwin(same, (x) => x.map((v) => v * 1.05), inputs)).toThrow('f64');
  expect(() =>
    checkAgainstTwin(same, (x) => x.map((v) => v * 1.05), inputs, { dtypes: ['bf16'] }),
  ).not.toThrow('f64');
  expect([...rounded([1.001], 'bf16')]).toEqual([1]);
});
