import { gradients, mul, sum, type Tensor, tensor } from 'longspan';
import { unpack } from '#lib/nn/functional/unpack';
import { values } from '../support/compare.js';

describe('unpack', () => {
  test('gives views, and gathers their gradients, strided and missing ones too', () => {
    const x = tensor(
      Array.from({ length: 12 }, (_, i) => i),
      { shape: [2, 6], dtype: 'f64' },
    ).requireGrad();
    const [a, b, c] = unpack(x, -1, [1, 3, 2]) as [Tensor, Tensor, Tensor];
    expect([...values(b)]).toEqual([1, 2, 3, 7, 8, 9]);
    const up = tensor(
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
      { dtype: 'f64' },
    );
    const loss = sum(mul(b.transpose(), up));
    const [g] = gradients([loss], [x]) as [Tensor];
    expect([...values(g)]).toEqual([0, 1, 3, 5, 0, 0, 0, 2, 4, 6, 0, 0]);
    expect([a.shape, c.shape]).toEqual([
      [2, 1],
      [2, 2],
    ]);
  });
});
