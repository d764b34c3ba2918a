/** Tensors between the CPU and a GPU: values, order, gradients, memory, failures. */
import { ArgumentError, backward, type Device, device, full, noGrad, tensor } from 'longspan';
import { describeCuda } from '../support/devices.js';
import { settledMemory } from '../support/memory.js';

/** Bit for bit; Jest's own comparison takes a minute for three million numbers. */
function same(a: ArrayBufferView, b: ArrayBufferView): boolean {
  const bytes = (x: ArrayBufferView) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  return bytes(a).equals(bytes(b));
}

describeCuda('between the CPU and a GPU', () => {
  const cpu = device('cpu');
  let cuda: Device;
  beforeAll(() => {
    cuda = device('cuda');
  });

  test.each([
    ['f32', Float32Array.of(1.5, -2, Number.NaN, Number.POSITIVE_INFINITY)],
    ['i32', Int32Array.of(1, -2, 2 ** 31 - 1)],
    ['u8', Uint8Array.of(0, 255)],
    ['f64', Float64Array.of(Math.PI, -0)],
    ['f32', new Float32Array(0)],
    ['f32', Float32Array.from({ length: 3 << 20 }, (_, i) => i)],
  ] as const)('%s comes back as it went, %#', async (dtype, data) => {
    const there = tensor(data, { device: 'cuda' });
    expect(there.dtype).toBe(dtype);
    expect(same(await there.data(), data)).toBe(true);
    expect(same(there.dataSync(), data)).toBe(true);
    const moved = tensor(data).to('cuda');
    expect(moved.device).toBe(cuda);
    expect(same(await moved.to('cpu').data(), data)).toBe(true);
    expect(moved.to(cuda)).toBe(moved);
  });

  test('views arrive contiguous', async () => {
    const view = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]).transpose();
    const moved = view.to('cuda');
    expect(moved.isContiguous).toBe(true);
    expect(await moved.data()).toEqual(Float32Array.of(1, 4, 2, 5, 3, 6));
  });

  test('the gradient comes back to where the tensor lies', async () => {
    const x = tensor([1, 2, 3]).requireGrad();
    const there = x.to('cuda');
    backward(there, { gradient: tensor([1, 10, 100], { device: 'cuda' }) });
    expect(x.grad?.device).toBe(cpu);
    expect(await x.grad?.data()).toEqual(Float32Array.of(1, 10, 100));
  });

  test('writes are in the order of the calls', async () => {
    const t = tensor([0], { device: 'cuda' });
    const seen = [];
    for (let i = 1; i <= 50; i++) {
      t.write(Float32Array.of(i));
      seen.push(t.data());
    }
    expect((await Promise.all(seen)).map(([v]) => v)).toEqual(seen.map((_, i) => i + 1));
  });

  test('memory is counted and returned', async () => {
    const before = await settledMemory(cuda);
    const t = noGrad(() => tensor(new Float32Array(1 << 18), { device: 'cuda' }));
    await cuda.synchronize();
    expect(cuda.memory().active - before.active).toBe(1 << 20);
    t.dispose();
    await cuda.synchronize();
    expect(cuda.memory().active).toBe(before.active);
    expect(cuda.memory().peak).toBeGreaterThanOrEqual(before.active + (1 << 20));
  });

  test('out of memory poisons the result and leaves the rest', async () => {
    cuda.setMemoryLimit((await settledMemory(cuda)).active + (1 << 20));
    const big = tensor(new Float32Array(1 << 20), { device: 'cuda' });
    await expect(big.data()).rejects.toMatchObject({ name: 'OutOfMemoryError' });
    expect(() => big.dataSync()).toThrow(/out of memory/);
    expect(await tensor([7], { device: 'cuda' }).data()).toEqual(Float32Array.of(7));
    cuda.setMemoryLimit(0);
  });

  test('devices do not mix, and a GPU that is not there is refused', () => {
    expect(() => full([2], 1).write(new Float32Array(3))).toThrow(ArgumentError);
    expect(() => device('cuda:7')).toThrow(/the first is cuda:0/);
  });
});
