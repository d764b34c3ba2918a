import { GraphError, normal, ones, permute, rotary, type Tensor, tensor, zeros } from 'longspan';
import { rotaryReference } from '../reference/rotary.js';
import { checkAgainstTwin, expectClose, tensorOf, values } from '../support/compare.js';
import { compareDevices, describeCuda } from '../support/devices.js';
import { checkGradients } from '../support/gradcheck.js';
import { Random } from '../support/random.js';

const list = (t: Tensor) => Array.from(values(t));
const ids = (x: ArrayLike<number>, shape = [x.length]) => tensorOf(x, shape, 'i32');
const shape = [2, 3, 7, 22];
const x = new Random(1).normal(2 * 3 * 7 * 22);

describe.each([false, true])('interleaved %s', (interleaved) => {
  test.each([22, 10, 2, 0])('turns %d of 22 channels, [B, H, N, D]', (dim) => {
    checkAgainstTwin(
      (t) => rotary(t, { dim, interleaved }),
      (v) => rotaryReference(v, [6, 7, 1, 22], { dim, interleaved }),
      [{ values: x, shape }],
    );
  });

  test('[B, N, H, D], base and offset', () => {
    checkAgainstTwin(
      (t) => rotary(t, { axis: 1, base: 500, offset: 41, interleaved }),
      (v) =>
        rotaryReference(v, [2, 3, 7, 22], { base: 500, position: (_, i) => i + 41, interleaved }),
      [{ values: x, shape }],
    );
  });

  test('gradients against finite differences', async () => {
    await checkGradients(
      (t) => rotary(t, { axis: 1, dim: 6, interleaved, offset: 3 }),
      [tensorOf(x.slice(0, 2 * 3 * 2 * 8), [2, 3, 2, 8], 'f64')],
    );
  });
});

test('positions of each element, of each batch entry, and a moving offset', () => {
  const positions = [5, 0, -3, 1000, 2, 2, 7];
  const t = tensorOf(x, shape, 'f64');
  const close = { absolute: 1e-11 };
  expectClose(
    rotary(t, { positions: ids(positions) }),
    rotaryReference(x, [6, 7, 1, 22], { position: (_, i) => positions[i] as number }),
    close,
  );
  const per = [positions, positions.map((p) => 3 * p)];
  expectClose(
    rotary(t, { positions: ids(per.flat(), [2, 7]), offset: ids([10], []) }),
    rotaryReference(x, [6, 7, 1, 22], {
      position: (o, i) => 10 + (per[Math.floor(o / 3)]?.[i] as number),
    }),
    close,
  );
});

test('f32 angles are exact for positions of a million and beyond', () => {
  const positions = [999_999, 1_000_000, 123_456_789, 2 ** 31 - 1];
  const one = ones([4, 64]);
  const y = rotary(one, { positions: ids(positions) });
  const expected = rotaryReference(values(one), [1, 4, 1, 64], {
    position: (_, i) => positions[i] as number,
  });
  expectClose(y, expected, { absolute: 4e-7 });
});

test('given frequencies replace the base', () => {
  const frequencies = Array.from({ length: 11 }, (_, i) => 10000 ** (-i / 11));
  const t = tensorOf(x, shape, 'f64');
  const y = rotary(t, { frequencies: tensorOf(frequencies, [11], 'f64') });
  expectClose(y, values(rotary(t)), { absolute: 1e-12 });
  expectClose(rotary(t, { frequencies: zeros([11]) }), x, { absolute: 0 });
});

test('products depend on distances', () => {
  const [q, k] = [normal([1, 32]), normal([1, 32])];
  const product = (a: number, b: number) => {
    const [u, v] = [values(rotary(q, { offset: a })), values(rotary(k, { offset: b }))];
    return u.reduce((sum, c, i) => sum + c * (v[i] as number), 0);
  };
  expect(product(70, 50)).toBeCloseTo(product(1020, 1000), 4);
});

test('views are read by stride', () => {
  const view = permute(tensorOf(x, [2, 7, 3, 22], 'f32'), [0, 2, 1, 3]);
  expect(list(rotary(view))).toEqual(list(rotary(view.contiguous())));
  const channels = permute(tensorOf(x.slice(0, 60), [10, 6], 'f32'), [1, 0]);
  expect(list(rotary(channels))).toEqual(list(rotary(channels.contiguous())));
});

test('positions written between forward and backward are noticed', () => {
  const positions = ids([0, 1]);
  const t = ones([2, 4]).requireGrad();
  const y = rotary(t, { positions });
  positions.write(Int32Array.of(5, 6));
  expect(() => y.backward({ gradient: ones([2, 4]) })).toThrow(GraphError);
});

test('empty axes and wrong arguments', () => {
  expect(rotary(zeros([2, 0, 4])).shape).toEqual([2, 0, 4]);
  expect(rotary(zeros([0, 3, 4])).shape).toEqual([0, 3, 4]);
  const t = zeros([2, 3, 5]);
  expect(() => rotary(t)).toThrow(/'dim' is 5.*even/);
  expect(() => rotary(t, { dim: 6 })).toThrow(/'dim' is 6.*0 to 5/);
  expect(() => rotary(t, { dim: 4, axis: 2 })).toThrow(/'axis' is 2/);
  expect(() => rotary(t, { dim: 4, axis: -1 })).toThrow(/last axis/);
  expect(() => rotary(t, { dim: 4, base: 0 })).toThrow(/'base' is 0/);
  expect(() => rotary(t, { dim: 4, offset: 0.5 })).toThrow(/'offset' is 0\.5/);
  expect(() => rotary(t, { dim: 4, positions: ids([1, 2]) })).toThrow(
    /'positions' is i32\[2\].*\[3\]/,
  );
  expect(() => rotary(t, { dim: 4, positions: tensor([1, 2, 3]) })).toThrow(/'positions' is f32/);
  expect(() => rotary(t, { dim: 4, frequencies: zeros([3]) })).toThrow(/'frequencies'.*\[2\]/);
  expect(() => rotary(zeros([4]))).toThrow(/at least 2 axes/);
  expect(() => rotary(t, { theta: 1 } as never)).toThrow(/'theta'/);
});

describeCuda('on cuda', () => {
  const make = (dims: number[]) => ({
    values: new Random(5).normal(dims.reduce((n, d) => n * d, 1)),
    shape: dims,
  });
  test.each([false, true])('interleaved %s', (interleaved) => {
    compareDevices((t) => rotary(t, { interleaved }), [make([2, 3, 5, 32])]);
    compareDevices((t) => rotary(t, { interleaved, dim: 10, offset: 1000 }), [make([2, 3, 7, 22])]);
    compareDevices((t) => rotary(t, { interleaved, dim: 0 }), [make([2, 3, 4])]);
    compareDevices(
      (t) => rotary(permute(t, [0, 2, 1, 3]), { interleaved, axis: 1 }),
      [make([2, 3, 5, 16])],
    );
    compareDevices((t) => rotary(permute(t, [0, 1, 3, 2]), { interleaved }), [make([2, 3, 8, 5])]);
  });

  test('positions, frequencies and offsets on the device', () => {
    const [positions, each] = [ids([5, 2000001, 0, 17]), ids([5, 1, 0, 17, 3, 2, 1, 0], [2, 4])];
    const offset = ids([12]);
    const frequencies = tensorOf([1, 0.1, 0.01, 0.003], [4], 'f32');
    compareDevices(
      (t, p, o, f) => rotary(t, { positions: p, offset: o, frequencies: f }),
      [make([2, 3, 4, 8])],
      { rest: [positions, offset, frequencies] },
    );
    compareDevices((t, p) => rotary(t, { positions: p, axis: 1 }), [make([2, 4, 3, 8])], {
      rest: [each],
    });
  });
});
