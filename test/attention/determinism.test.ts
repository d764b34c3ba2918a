/** The same call gives the same bits: a thousand times, and with any number of threads. */
import { attention, gradients, setNumThreads, type Tensor } from 'longspan';
import { isEmulated } from '../../bench/harness/machine.js';
import { type FloatType, tensorOf } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { Random } from '../support/random.js';

interface Shape {
  d: number;
  n: number;
  m: number;
  causal: boolean;
}

/** Results and every gradient of one call, as bytes; two query heads for each of two key heads. */
function preparedCall(on: string, { d, n, m, causal }: Shape, dtype: FloatType) {
  const random = new Random(11);
  const make = (shape: number[], type: FloatType = dtype) =>
    tensorOf(random.normal(shape.reduce((a, b) => a * b)), shape, type).to(on);
  const leaves = [
    make([1, 4, n, d]),
    make([1, 2, m, d]),
    make([1, 2, m, d]),
    make([1, 1, n, m]),
    make([4], 'f32'),
  ].map((t) => t.requireGrad()) as [Tensor, Tensor, Tensor, Tensor, Tensor];
  const [q, k, v, bias, sinks] = leaves;
  const upstream = [make([1, 4, n, d]), make([1, 4, n], 'f32')];
  return (): Buffer => {
    const results = attention(q, k, v, { causal, bias, sinks, returnLse: true });
    const all = [...results, ...(gradients(results, leaves, { gradients: upstream }) as Tensor[])];
    const bytes = all.map((t) => {
      const { buffer, byteOffset, byteLength } = t.dataSync();
      t.dispose();
      return Buffer.from(buffer, byteOffset, byteLength);
    });
    return Buffer.concat(bytes);
  };
}

describe.each(testDevices())('on %s', (on) => {
  // The emulator takes a thousand times as long.
  const runs = on === 'cuda' && isEmulated() ? 5 : 1000;
  test.each<[FloatType, Shape]>([
    ['f32', { d: 24, n: 37, m: 53, causal: true }],
    ['bf16', { d: 64, n: 70, m: 65, causal: false }],
    ['f16', { d: 128, n: 33, m: 40, causal: true }],
    ['f32', { d: 256, n: 20, m: 35, causal: false }],
    ['bf16', { d: 256, n: 35, m: 70, causal: true }],
  ])(`${runs} times the same bits, %s %p`, (dtype, shape) => {
    const call = preparedCall(on, shape, dtype);
    const first = call();
    let same = 0;
    for (let i = 0; i < runs; i++) same += Number(call().equals(first));
    expect(same).toBe(runs);
  });
});

test('whatever the number of threads', () => {
  const call = preparedCall('cpu', { d: 64, n: 300, m: 280, causal: true }, 'f32');
  const all = setNumThreads(1024); // gives as many as there are
  const results = Array.from({ length: all }, (_, i) => {
    setNumThreads(i + 1);
    return call();
  });
  for (const result of results) expect(result.equals(results[0] as Buffer)).toBe(true);
});
