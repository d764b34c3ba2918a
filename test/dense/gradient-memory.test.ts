import { add, gradients, mul, reshape, sum, type Tensor, tensor } from 'longspan';
import { values } from '../support/compare.js';

test('gradients of leaves share no memory, so that they can be changed in place', () => {
  const [a, b, c] = [tensor([1, 2]), tensor([3, 4]), tensor([[5], [6]])].map((t) =>
    t.requireGrad(),
  ) as [Tensor, Tensor, Tensor];
  sum(add(add(a, b), reshape(c, [2]))).backward();
  for (const t of [a, b, c]) expect((t.grad as Tensor).isContiguous).toBe(true);
  (a.grad as Tensor).write(new Float32Array([7, 8]));
  expect([...values(b.grad as Tensor)]).toEqual([1, 1]);
  expect([...values(c.grad as Tensor)]).toEqual([1, 1]);
});

test('gradients that meet at a tensor are summed in the recorded graph', () => {
  const x = tensor([3]).requireGrad();
  const y = mul(x, x);
  const [g] = gradients([mul(y, y)], [x], { createGraph: true }) as [Tensor];
  const [h] = gradients([g], [x]) as [Tensor];
  expect([...values(g)]).toEqual([4 * 27]);
  expect([...values(h)]).toEqual([12 * 9]);
});
