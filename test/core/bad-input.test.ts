/** What is no argument at all: every function of tensors answers it with a typed error, or takes it. */
import * as longspan from 'longspan';
import { device, LongspanError, slice, tensor, transpose, zeros } from 'longspan';
import * as attention from '#lib/attention/index';
import * as dense from '#lib/dense/index';
import { describeCuda } from '../support/devices.js';

type Callable = (...args: unknown[]) => unknown;

const core = [
  'arange',
  'backward',
  'buffer',
  'cast',
  'checkpoint',
  'clipGradNorm',
  'clipGradValue',
  'device',
  'full',
  'gradients',
  'manualSeed',
  'noGrad',
  'ones',
  'parameter',
  'permute',
  'releaseGraph',
  'reshape',
  'sinusoidalPositions',
  'slice',
  'split',
  'squeeze',
  'tensor',
  'tidy',
  'transpose',
  'unsqueeze',
  'vjp',
  'zeros',
] as const;

const isClass = (f: unknown) => /^class\b/.test(Function.prototype.toString.call(f));
const exported = new Map(Object.entries(longspan) as [string, Callable][]);
const ofFamilies = [...Object.entries(dense), ...Object.entries(attention)] as [string, Callable][];
const functions = new Map<string, Callable>([
  ...core.map((name) => [name, exported.get(name) as Callable] as const),
  ...ofFamilies.filter(([, f]) => typeof f === 'function' && !isClass(f)),
]);

function disposed() {
  const t = zeros([2]);
  t.dispose();
  return t;
}

const junk: readonly unknown[] = [
  ...[undefined, null, 5, -1, Number.NaN, Number.POSITIVE_INFINITY, 1.5, 2 ** 40, '', 'x', true],
  ...[() => 1, Symbol.iterator, 10n, {}, { a: 1 }, [], [1], [[]], ['x'], [null], new Map()],
  ...[new Float32Array(3), device('cpu'), disposed()],
  ...[[], [0], [3], [2, 3], [1, 2, 3, 4]].map((shape) => zeros(shape)),
  ...(['i32', 'u8', 'f64', 'f16'] as const).map((dtype) => zeros([2, 3], { dtype })),
];

/** Every value alone, and beside others that change from call to call. */
function* calls(): Generator<readonly unknown[]> {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return junk[Math.floor((state / 2 ** 32) * junk.length)];
  };
  yield [];
  for (const first of junk) {
    yield [first];
    for (let i = 0; i < 4; i++) yield [first, next()];
    for (let i = 0; i < 4; i++) yield [first, next(), next()];
    for (let i = 0; i < 2; i++) yield [first, next(), next(), next()];
  }
}

test('the functions of tensors are found', () => {
  expect(functions.size).toBeGreaterThan(100);
  for (const f of functions.values()) expect(typeof f).toBe('function');
});

test.each([...functions])('%s', async (_, f) => {
  let refused = 0;
  for (const args of calls()) {
    try {
      const result = f(...args);
      if (result instanceof Promise) await result;
    } catch (error) {
      if (!(error instanceof LongspanError)) throw error;
      expect(error.message.length).toBeGreaterThan(20);
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(0);
});

test.each<[string, () => unknown, RegExp]>([
  [
    'a misspelt option of full',
    () => zeros([1], { dtpe: 'f16' } as never),
    /'dtpe'.*Did you mean 'dtype'/,
  ],
  [
    'a misspelt option of tensor',
    () => tensor([1], { shpe: [1] } as never),
    /'shpe'.*Did you mean 'shape'/,
  ],
  [
    'an option of backward',
    () => longspan.backward(zeros([]), { keepGraph: true } as never),
    /'keepGraph'.*'retainGraph'/,
  ],
  [
    'a number that i32 cannot hold',
    () => tensor([2 ** 31], { dtype: 'i32' }),
    /'data' is 2147483648/,
  ],
  ['NaN as u8', () => tensor([Number.NaN], { dtype: 'u8' }), /'data' is NaN.*from 0 to 255/],
  [
    'a fraction in an i32 tensor',
    () => longspan.full([2], 1.5, { dtype: 'i32' }),
    /'value' is 1\.5.*whole number/,
  ],
  [
    'a choice that u8 cannot hold',
    () => longspan.where(zeros([1], { dtype: 'u8' }), -1, zeros([1], { dtype: 'u8' })),
    /where: 'a' is -1/,
  ],
  ['more elements than fit', () => longspan.arange(1e13), /arange: out of memory/],
  [
    'more elements than JavaScript holds',
    () => zeros([2 ** 45]).dataSync(),
    /dataSync: out of memory/,
  ],
  ['a bound of arange', () => longspan.arange(Number.NaN), /'end' is NaN/],
  ['a dtype that is none', () => zeros([1]).to('f8'), /to: 'target' is 'f8'.*f32, f16/],
  ['a cast to no dtype', () => longspan.cast(zeros([1]), 'f8' as never), /cast: 'dtype' is 'f8'/],
  ['a device that is none', () => device(5 as never), /device: 'name' is 5/],
  ['data that are none', () => zeros([1]).write('abcd' as never), /write: 'data' is abcd/],
  [
    'an unknown norm',
    () => longspan.gradNorm([zeros([1])], { order: 1 } as never),
    /'order' is 1.*2 or Infinity/,
  ],
])('%s', (_, call, message) => {
  expect(call).toThrow(LongspanError);
  expect(call).toThrow(message);
});

test.each<[string, () => unknown]>([
  ['add', () => longspan.add(zeros([4, 3]), zeros([2]))],
  ['less', () => longspan.less(zeros([4, 3]), zeros([2]))],
  ['sqrt', () => longspan.sqrt(zeros([2], { dtype: 'i32' }))],
  ['max', () => longspan.max(zeros([0]))],
  ['argmin', () => longspan.argmin(zeros([2, 0]), 1)],
  ['mean', () => longspan.mean(zeros([2], { dtype: 'i32' }))],
  ['embedding', () => longspan.embedding(zeros([2, 2]), zeros([1]))],
  ['swiglu', () => longspan.swiglu(zeros([3]))],
])('%s is what its error names, not the operator it shares', (name, call) => {
  expect(call).toThrow(expect.objectContaining({ operator: name }));
});

test.each([5, null, {}, Symbol.iterator])('%p is no path of a file', async (path) => {
  const refusal = { code: 'ERR_VALUE', argument: 'file' };
  await expect(longspan.saveTensors(path as never, {})).rejects.toMatchObject(refusal);
  expect(() => longspan.openAtomicFile(path as never)).toThrow(expect.objectContaining(refusal));
});

test('2^31 elements and more are counted and reached in 64 bits', () => {
  using x = longspan.full([2 ** 31 + 8], 1, { dtype: 'u8' });
  x.slice(0, -1).write(Uint8Array.of(9));
  expect([...x.slice(0, -2).dataSync()]).toEqual([1, 9]);
  const table = longspan.reshape(slice(x, 0, 8), [2 ** 16, 2 ** 15]);
  const column = slice(transpose(table), 0, -1).clone();
  expect(column.shape).toEqual([1, 2 ** 16]);
  expect(column.slice(1, -1).itemSync()).toBe(9);
  // i32 indices end before.
  expect(() => longspan.argmax(x)).toThrow(/2\^31 elements.*indices are i32/);
  expect(() => longspan.topK(x, 1)).toThrow(/2\^31 elements.*indices are i32/);
});

test('floats become the nearest integers, and sums of integers wrap', () => {
  for (const dtype of ['f32', 'f64'] as const) {
    const x = tensor([3e9, -3e9, Number.POSITIVE_INFINITY, Number.NaN, -1.9, 300], { dtype });
    const [most, least] = [2 ** 31 - 1, -(2 ** 31)];
    expect([...x.to('i32').dataSync()]).toEqual([most, least, most, 0, -1, 300]);
    expect([...x.to('u8').dataSync()]).toEqual([255, 0, 255, 0, 255, 44]);
  }
  const large = tensor([2 ** 31 - 1, 2 ** 31 - 1], { dtype: 'i32' });
  expect([...longspan.cumsum(large, 0).dataSync()]).toEqual([2 ** 31 - 1, -2]);
  const added = longspan.scatterAdd(large, 0, zeros([2], { dtype: 'i32' }), large);
  expect([...added.dataSync()]).toEqual([2 ** 31 - 3, 2 ** 31 - 1]);
});

describeCuda('tensors of two devices', () => {
  test('do not meet in one call', () => {
    const [here, there] = [zeros([2, 2]), zeros([2, 2], { device: 'cuda' })];
    for (const call of [longspan.add, longspan.matmul, longspan.linear, longspan.maximum]) {
      expect(() => call(here, there)).toThrow(expect.objectContaining({ code: 'ERR_DEVICE' }));
      expect(() => call(there, here)).toThrow(/on cpu.*must be on cuda:0; tensor\.to\(device\)/);
    }
    const generator = new longspan.Generator(1, 'cuda');
    expect(() => longspan.dropout(here, { generator })).toThrow(/'generator' is on cuda:0/);
  });
});

test('host memory of other kinds is read', () => {
  const shared = new Float32Array(new SharedArrayBuffer(8));
  shared.set([1, 2]);
  expect([...tensor(shared).dataSync()]).toEqual([1, 2]);
  const t = zeros([2]);
  t.write(new DataView(Float32Array.of(3, 4).buffer));
  expect([...t.dataSync()]).toEqual([3, 4]);
  t.write(shared);
  expect([...t.dataSync()]).toEqual([1, 2]);
});
