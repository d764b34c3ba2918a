import {
  Generator,
  manualSeed,
  noGrad,
  RoutingTransformer,
  type RoutingTransformerOptions,
  randint,
  type Tensor,
  tensor,
  tidy,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';

const model = (options: Partial<RoutingTransformerOptions> = {}) =>
  new RoutingTransformer({
    ...{ vocabSize: 17, dModel: 32, layers: 2, heads: 4, maxLength: 48 },
    ...{ routedHeads: 2, clusters: 4, window: 8, localWindow: 6 },
    generator: new Generator(1),
    ...options,
  });
const tokens = (batch: number, length: number, seed = 2) =>
  randint([batch, length], 0, 17, { generator: new Generator(seed) });

describe('RoutingTransformer', () => {
  test('later tokens change nothing before them, bit for bit', () => {
    const m = model().eval();
    const ids = tokens(2, 31);
    const changed = [...values(ids)].map((id, i) => (i % 31 === 17 ? (id + 1) % 17 : id));
    const other = tensor(Int32Array.from(changed), { shape: [2, 31] });
    const [a, b] = noGrad(() => [m.forward(ids), m.forward(other)]) as [Tensor, Tensor];
    expect(values(a.slice(1, 0, 17))).toEqual(values(b.slice(1, 0, 17)));
    expect(values(a.slice(1, 17, 31))).not.toEqual(values(b.slice(1, 17, 31)));
  });

  test('decoding equals the whole', () => {
    const m = model().eval();
    const ids = tokens(2, 21);
    const whole = noGrad(() => m.forward(ids));
    const state = m.initState(2, 21);
    for (let start = 0; start < 21; ) {
      const end = start === 0 ? 5 : start + 1;
      const logits = tidy(() => m.step(ids.slice(1, start, end), state));
      expectClose(logits, values(whole.slice(1, start, end)), { absolute: 1e-4 });
      start = end;
    }
    state.dispose();
  });

  test('the commitment loss is part of the loss in training, reversible or not', () => {
    for (const reversible of [false, true]) {
      const [ids, targets] = [tokens(2, 29, 3), tokens(2, 29, 4)];
      const loss = (commitment: number) => {
        const m = model({ commitment, reversible });
        const value = m.loss(ids, targets);
        value.backward();
        return values(value)[0] as number;
      };
      expect(loss(1)).toBeGreaterThan(loss(0) + 0.01);
    }
  });

  test.each(testDevices())("centroids come from the model's generator, on %s", (device) => {
    const buffers = (seed: number, on: string) => {
      manualSeed(Math.floor(1e6 * Math.random()), on); // what nothing of a model with a generator reads
      manualSeed(Math.floor(1e6 * Math.random()));
      const m = model({ generator: new Generator(seed, on), device: on });
      const names = Object.entries(m.stateDict()).filter(([name]) =>
        /centroids|generator_state/.test(name),
      );
      expect(names).toHaveLength(4);
      return { m, drawn: names.map(([, t]) => values(t)) };
    };
    const [one, again, other] = [buffers(5, device), buffers(5, device), buffers(6, device)];
    expect(again.drawn).toEqual(one.drawn);
    const unlike = one.drawn.filter((x, i) => x.every((n, at) => n === other.drawn[i]?.[at]));
    expect(unlike).toEqual([]);
    // Each layer has its own, and so has each device the same.
    expect(one.drawn[0]).not.toEqual(one.drawn[2]);
    const cpu = buffers(5, 'cpu');
    one.drawn.forEach((x, i) => {
      expectClose(x, cpu.drawn[i] as Float64Array, { absolute: 1e-5 });
    });
    // Lloyd's iterations over the first batch begin with the same tokens.
    const first = ({ m }: typeof one) => {
      const on = m.embedding.weight.device;
      m.loss(tokens(2, 31).to(on), tokens(2, 31, 7).to(on)).backward();
      return values(m.stateDict()['layers.0.self_attn.mechanism.mechanisms.1.centroids'] as Tensor);
    };
    const [trained, repeated, expected] = [first(one), first(again), first(cpu)];
    expect(repeated).toEqual(trained);
    expectClose(trained, expected, { absolute: 1e-4 });
  });

  test.each(testDevices())('all of it is made on %s, and trains there', (device) => {
    const generator = new Generator(1, device);
    const m = model({ device, generator });
    const ids = tokens(2, 29, 3).to(device);
    const [before] = [...m.namedBuffers()].filter(([name]) => name.endsWith('centroids'));
    const [, centroids] = before as [string, Tensor];
    expect(centroids.device.type).toBe(device);
    const first = values(centroids);
    m.loss(ids, ids).backward();
    expect(values(centroids)).not.toEqual(first);
  });

  test('a configuration is JSON, and bad options are typed errors', () => {
    const m = model({ routedLayers: 1 });
    const copy = RoutingTransformer.fromConfig(JSON.parse(JSON.stringify(m.config)));
    expect(copy.config).toEqual(m.config);
    expect(() => model({ routedHeads: 5 })).toThrow(/'routedHeads' is 5/);
    expect(() => model({ mechanism: { name: 'softmax', causal: true } })).toThrow(/mechanism/);
  });
});
