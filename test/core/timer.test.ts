/** Time on a device's own clock. */
import { ArgumentError, device, matmul, normal, type Tensor } from 'longspan';
import { startTimer } from '#lib/core/timer';
import { testDevices } from '../support/devices.js';

describe.each(testDevices())('on %s', (name) => {
  const on = device(name);
  const work = (times: number): void => {
    const a: Tensor = normal([64, 64], { device: on });
    for (let i = 0; i < times; i++) matmul(a, a).dispose();
  };

  test('seconds of the work in between, no longer than the wall clock', async () => {
    work(1);
    await on.synchronize();
    const start = performance.now();
    const stop = startTimer(on);
    work(4);
    const seconds = await stop();
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual((performance.now() - start) / 1e3);
  });

  test('several at once: the outer one covers the inner ones, work outside does not count', async () => {
    const outer = startTimer(on);
    const first = startTimer(on);
    work(2);
    const a = first();
    work(8);
    const second = startTimer(on);
    const b = second();
    const whole = outer();
    const seconds = await Promise.all([a, b, whole]);
    expect(seconds[0]).toBeGreaterThan(seconds[1] as number);
    // A GPU tells milliseconds in 24 bits.
    const sum = (seconds[0] as number) + (seconds[1] as number);
    expect(seconds[2]).toBeGreaterThan(sum * (1 - 1e-5));
  });

  test('a recording has no time', async () => {
    const stop = startTimer(on);
    expect(() => on.capture(() => startTimer(on))).toThrow(ArgumentError);
    let inside: Promise<unknown> | undefined;
    const graph = on.capture(() => {
      inside = stop().catch((error: unknown) => error);
    });
    expect(await inside).toBeInstanceOf(ArgumentError);
    graph.dispose();
    expect(await stop()).toBeGreaterThan(0);
  });
});
