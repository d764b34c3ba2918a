import {
  ArgumentError,
  arange,
  cast,
  DisposedError,
  full,
  permute,
  reshape,
  slice,
  split,
  squeeze,
  tensor,
  transpose,
  unsqueeze,
  zeros,
} from 'longspan';

const list = (t: { dataSync(): ArrayLike<number> }) => Array.from(t.dataSync());

test('host data keeps its type', () => {
  expect(tensor(new Float64Array([1, 2])).dtype).toBe('f64');
  expect(tensor(new Int32Array([1, 2])).dtype).toBe('i32');
  expect(tensor(new Uint8Array([1, 2])).dtype).toBe('u8');
  expect(tensor(Buffer.from([1, 2])).dtype).toBe('u8');
  expect(
    tensor(new Uint16Array([0x3f80]), { dtype: 'bf16' })
      .to('f32')
      .itemSync(),
  ).toBe(1);
  expect(tensor([[1, 2]]).shape).toEqual([1, 2]);
  expect(tensor([]).shape).toEqual([0]);
  expect(tensor(2 ** 31 - 1, { dtype: 'i32' }).itemSync()).toBe(2 ** 31 - 1);
});

test('host data is copied before the call returns', () => {
  const data = new Float32Array([1, 2]);
  const t = tensor(data);
  data[0] = 9;
  expect(list(t)).toEqual([1, 2]);
});

test.each([
  [() => tensor([[1, 2], [3]]), /data\[1\].*one length/],
  [() => tensor(['1'] as never), /data\[0\].*'1'/],
  [() => tensor([1, 2], { shape: [3] }), /'shape' is \[3\].*2 elements/],
  [() => tensor([1], { dtype: 'f8' as never }), /'dtype' is 'f8'/],
  [() => tensor(new Uint16Array(1)), /Uint16Array.*bf16/],
  [() => reshape(zeros([6]), [4, -1]), /reshape: 'shape'/],
  [() => slice(zeros([3]), 0, 1, 4), /slice: 'end'/],
  [() => slice(zeros([3]), 1, 0, 1), /slice: 'axis' is 1/],
  [() => permute(zeros([2, 3]), [0, 0]), /permute: 'order'/],
  [() => split(zeros([5]), 2), /split: 'parts'/],
  [() => squeeze(zeros([2]), 0), /squeeze: 'x'/],
  [() => zeros([1, 1, 1, 1, 1, 1, 1, 1, 1]), /'shape' is 9 axes.*at most 8/],
  [() => zeros([2]).itemSync(), /item: 'this' is f32\[2\]/],
  [() => zeros([2], { dtype: 'i32' }).requireGrad(), /requireGrad.*i32/],
  [() => zeros([2]).write(new Float32Array(3)), /'data' is 12 bytes.*8 bytes/],
])('bad input %#', (call, message) => {
  expect(call).toThrow(ArgumentError);
  expect(call).toThrow(message);
});

test('a disposed tensor is refused by name', () => {
  const t = zeros([2]);
  t.dispose();
  for (const use of [
    () => t.dataSync(),
    () => t.clone(),
    () => t.detach(),
    () => t.write(new Float32Array(2)),
  ]) {
    expect(use).toThrow(DisposedError);
  }
  return expect(t.data()).rejects.toThrow(DisposedError);
});

test('views agree with index arithmetic', () => {
  const x = arange(24).reshape(2, 3, 4);
  expect(list(transpose(x, 0, 2))).toEqual([
    0, 12, 4, 16, 8, 20, 1, 13, 5, 17, 9, 21, 2, 14, 6, 18, 10, 22, 3, 15, 7, 19, 11, 23,
  ]);
  expect(list(permute(x, [2, 0, 1]).reshape(4, 6).slice(0, 3))).toEqual([3, 7, 11, 15, 19, 23]);
  expect(list(slice(x, -1, 1, -1).slice(1, 2).reshape(-1))).toEqual([9, 10, 21, 22]);
  expect(split(x, [1, 2], 1).map((t) => t.shape)).toEqual([
    [2, 1, 4],
    [2, 2, 4],
  ]);
  expect(unsqueeze(x, 1).shape).toEqual([2, 1, 3, 4]);
  expect(squeeze(unsqueeze(x, -1), 3).shape).toEqual([2, 3, 4]);
});

test('reshape of a view copies only when it must', () => {
  const x = arange(24).reshape(2, 3, 4);
  const rows = slice(x, 1, 0, 2); // gaps between the blocks of axis 0
  const merged = reshape(rows, [2, 8]);
  expect(merged.storage).toBe(x.storage);
  expect(list(merged)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 16, 17, 18, 19]);
  expect(reshape(rows, [16]).storage).not.toBe(x.storage);
  expect(list(reshape(rows, [16]))).toEqual(list(merged));
  expect(reshape(transpose(x), [24]).storage).not.toBe(x.storage);
});

test('casts round to nearest even and keep special values', () => {
  const x = tensor([1.0009765625, 65520, 1e-8, Number.NaN, Number.NEGATIVE_INFINITY, 3.7]);
  expect(list(cast(x, 'f16').to('f32'))).toEqual([
    1.0009765625,
    Number.POSITIVE_INFINITY,
    0,
    Number.NaN,
    Number.NEGATIVE_INFINITY,
    3.69921875,
  ]);
  expect(list(cast(x, 'bf16').to('f32')).slice(0, 2)).toEqual([1, 65536]);
  expect(list(cast(full([1], -3.7), 'i32'))).toEqual([-3]);
});

test('empty tensors', () => {
  const x = zeros([0, 3]);
  expect(list(x.clone())).toEqual([]);
  expect(transpose(x).clone().shape).toEqual([3, 0]);
});
