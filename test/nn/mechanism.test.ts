import {
  attention,
  checkpoint,
  concat,
  device,
  Generator,
  gradients,
  LshAttention,
  type Mechanism,
  MixedAttention,
  MultiHeadAttention,
  mechanismFrom,
  normal,
  ones,
  RoutingAttention,
  registerMechanism,
  SoftmaxAttention,
  slice,
  type Tensor,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import {
  checkCapture,
  checkCausality,
  checkReorder,
  checkStep,
  checkTurns,
  type MechanismCase,
} from '../support/mechanism.js';

/** Every mechanism in the forms that models use; a new one joins here. */
const mechanisms: [string, () => Mechanism, MechanismCase][] = [
  ['softmax', () => new SoftmaxAttention(), {}],
  ['causal softmax', () => new SoftmaxAttention({ causal: true }), {}],
  ['causal softmax, grouped heads', () => new SoftmaxAttention({ causal: true }), { kvHeads: 2 }],
  ['causal softmax, wide values', () => new SoftmaxAttention({ causal: true }), { valueDim: 12 }],
  ['window', () => new SoftmaxAttention({ causal: true, window: 4 }), {}],
  [
    'dropout in training',
    () => new SoftmaxAttention({ causal: true, dropout: 0.3 }),
    { training: true },
  ],
  ['softcap and scale', () => new SoftmaxAttention({ causal: true, softcap: 5, scale: 0.3 }), {}],
  [
    'window that rotates itself',
    () => new SoftmaxAttention({ causal: true, window: 4, rotary: { dim: 6, base: 300 } }),
    {},
  ],
  [
    'mixed',
    () =>
      new MixedAttention({
        groups: [
          { heads: 1, mechanism: { name: 'softmax', causal: true } },
          { heads: 3, mechanism: { name: 'softmax', causal: true, window: 3, rotary: {} } },
        ],
      }),
    {},
  ],
  ['lsh', () => new LshAttention({ causal: true, buckets: 4, rounds: 2, chunk: 3 }).eval(), {}],
  ['lsh, both ways', () => new LshAttention({ buckets: 2, rounds: 2, chunk: 4 }).eval(), {}],
  [
    'lsh in training',
    () => new LshAttention({ causal: true, buckets: 4, rounds: 2, chunk: 3, scale: 0.5 }),
    { training: true },
  ],
  [
    'mixed, both ways',
    () =>
      new MixedAttention({
        groups: [
          { heads: 2, mechanism: { name: 'softmax', causal: true } },
          { heads: 2, mechanism: new SoftmaxAttention({ window: 2 }) },
        ],
      }),
    {},
  ],
  [
    'routing',
    () => new RoutingAttention({ heads: 4, dim: 8, clusters: 3, window: 4 }).eval(),
    { valueDim: 12 },
  ],
  [
    'routing, shared keys',
    () =>
      new RoutingAttention({ heads: 4, dim: 8, clusters: 3, window: 4, sharedKeys: true }).eval(),
    {},
  ],
  [
    'routing, balanced',
    () => new RoutingAttention({ heads: 4, dim: 8, clusters: 3, window: 6, balanced: true }).eval(),
    {},
  ],
];

describe.each(mechanisms)('%s', (_, make, options) => {
  test('causality is as declared', () => {
    checkCausality(make(), options);
  });

  test('its configuration makes another like it', () => {
    const config = make().config();
    expect(mechanismFrom(JSON.parse(JSON.stringify(config))).config()).toEqual(config);
  });

  if (options.training || !make().decodes || make().causality === 'full') return;

  test.each(['f32', 'f64'] as const)('steps equal the parallel form in %s', (dtype) => {
    checkStep(make(), { ...options, dtype });
  });

  test('states reorder and reset', () => {
    checkReorder(make(), options);
  });

  if (make().paged) {
    test.each([1, 3, 16])('so do states in pages of %i tokens', (pageSize) => {
      checkStep(make(), { ...options, pageSize });
      checkReorder(make(), { ...options, pageSize });
    });
  }

  if (make().rotates) {
    test.each(testDevices())('steps rotate queries and keys on %s', (name) => {
      checkTurns(make(), options, device(name));
    });
  }

  if (!make().capturable) return;

  test.each(testDevices())('a step is recorded once and replayed on %s', (name) => {
    checkCapture(make(), options, device(name));
    if (make().paged) checkCapture(make(), { ...options, pageSize: 5 }, device(name));
  });
});

describe('MixedAttention', () => {
  test('is each mechanism on its own heads, with gradients', () => {
    const [near, far] = [
      new SoftmaxAttention({ causal: true, window: 2 }),
      new SoftmaxAttention({ causal: true }),
    ];
    const mixed = new MixedAttention({
      groups: [
        { heads: 1, mechanism: near },
        { heads: 2, mechanism: far },
      ],
    });
    const generator = new Generator(3);
    const draw = () => normal([2, 3, 7, 4], { generator, dtype: 'f64' });
    const leaves = [draw(), draw(), draw()].map((t) => t.requireGrad()) as [Tensor, Tensor, Tensor];
    const up = draw();
    const parts = ([q, k, v]: readonly Tensor[], one: SoftmaxAttention, from: number, to: number) =>
      one.forward(...([q, k, v].map((t) => slice(t as Tensor, 1, from, to)) as typeof leaves));
    const expected = concat([parts(leaves, near, 0, 1), parts(leaves, far, 1, 3)], 1);
    const found = mixed.forward(...leaves);
    expectClose(found, values(expected), { absolute: 1e-14 });
    const [a, b] = [expected, found].map((y) => gradients([y], leaves, { gradients: [up] }));
    b?.forEach((g, i) => {
      expectClose(g as Tensor, values(a?.[i] as Tensor), { absolute: 1e-14 });
    });
    const shape = { batch: 1, heads: 3, keyDim: 4, valueDim: 4 };
    expect(mixed.flops(7, 7, shape)).toBe(
      near.flops(7, 7, { ...shape, heads: 1 }) + far.flops(7, 7, { ...shape, heads: 2 }),
    );
  });

  test('bad groups are typed errors', () => {
    const causal = { name: 'softmax', causal: true };
    expect(() => new MixedAttention({ groups: [] })).toThrow(/list of/);
    expect(() => new MixedAttention({ groups: [{ heads: 0, mechanism: causal }] })).toThrow(
      /'heads' is 0/,
    );
    const two = new MixedAttention({ groups: [{ heads: 2, mechanism: causal }] });
    const x = normal([1, 3, 4, 4]);
    expect(() => two.forward(x, x, x)).toThrow(/2 heads/);
  });
});

describe('dropout of attention weights', () => {
  const heads = () => {
    const generator = new Generator(3);
    const [q, k, v] = [1, 2, 3].map(() => normal([2, 4, 9, 8], { generator }));
    return [q, k, v] as [Tensor, Tensor, Tensor];
  };
  const mechanism = () => new SoftmaxAttention({ causal: true, dropout: 0.4 });

  test('is that of the operator in training, and none in eval', () => {
    const [q, k, v] = heads();
    const trained = mechanism().forward(q, k, v, { generator: new Generator(5) });
    const options = { causal: true, dropout: 0.4, generator: new Generator(5) };
    expect(values(trained)).toEqual(values(attention(q, k, v, options)));
    const plain = values(attention(q, k, v, { causal: true }));
    expect(values(mechanism().eval().forward(q, k, v))).toEqual(plain);
    expect(values(trained)).not.toEqual(plain);
    expect(new SoftmaxAttention().random).toBe(false);
  });

  test('a layer draws it from its generator, and again when it is recomputed', () => {
    const run = (recompute: boolean) => {
      const generator = new Generator(8);
      const layer = new MultiHeadAttention({
        ...{ dModel: 16, heads: 4, mechanism: mechanism(), generator },
      });
      const x = normal([2, 6, 16], { generator: new Generator(9) }).requireGrad();
      const forward = (t: Tensor) => layer.forward(t);
      const y = recompute ? checkpoint(forward, [x]) : forward(x);
      y.backward({ gradient: ones(y.shape) });
      return [values(y), values(x.grad as Tensor)];
    };
    expect(run(true)).toEqual(run(false));
  });

  test('refuses what is no probability', () => {
    for (const dropout of [-0.1, 1, Number.NaN]) {
      expect(() => new SoftmaxAttention({ dropout })).toThrow(/SoftmaxAttention: 'dropout' is/);
    }
  });
});

describe('LshAttention', () => {
  const draw = (seed: number) =>
    normal([2, 3, 40, 8], { generator: new Generator(seed), dtype: 'f64' });

  test('eval has rotations of its own, training draws them', () => {
    const mechanism = new LshAttention({ buckets: 8, rounds: 1, chunk: 4 });
    const [q, v] = [draw(1), draw(2)];
    const run = (generator = new Generator(3)) => values(mechanism.forward(q, q, v, { generator }));
    const generator = new Generator(3);
    expect(run(generator)).not.toEqual(run(generator));
    expect(run()).toEqual(run());
    mechanism.eval();
    expect(run(new Generator(4))).toEqual(run());
    const other = new LshAttention({ buckets: 8, rounds: 1, chunk: 4, seed: 1 }).eval();
    expect(values(other.forward(q, q, v))).not.toEqual(run());
    const more = { buckets: 8, chunk: 4, rounds: 6 };
    expect(values(new LshAttention({ ...more, evalRounds: 1 }).eval().forward(q, q, v))).toEqual(
      run(),
    );
  });

  test('a layer computed again keeps its rotations and buckets', () => {
    const generator = new Generator(3);
    const mechanism = new LshAttention({ causal: true, buckets: 8, rounds: 2, chunk: 4 });
    const [q, v] = [draw(1).requireGrad(), draw(2).requireGrad()];
    const up = draw(4);
    const run = (wrap: (fn: (a: Tensor, b: Tensor) => Tensor) => Tensor) => {
      generator.seed(3);
      const y = wrap((a, b) => mechanism.forward(a, a, b, { generator }));
      const grads = gradients([y], [q, v], { gradients: [up] });
      return [y, ...grads].map((t) => values(t as Tensor));
    };
    const plain = run((fn) => fn(q, v));
    expect(run((fn) => checkpoint(fn as (...given: Tensor[]) => Tensor, [q, v]))).toEqual(plain);
  });

  test('bad options are typed errors', () => {
    expect(() => new LshAttention({ buckets: 3 })).toThrow(/'buckets' is 3.*even/);
    expect(() => new LshAttention({ buckets: 4, rounds: 0 })).toThrow(/'rounds' is 0/);
    const layer = new MultiHeadAttention({
      ...{ dModel: 8, heads: 2 },
      mechanism: new LshAttention({ buckets: 2 }),
    });
    expect(layer.inProjWeight.shape).toEqual([16, 8]); // queries and values
    const x = normal([1, 3, 8]);
    expect(() => layer.forward(x, { memory: x })).toThrow(/own queries/);
  });
});

describe('the registry', () => {
  test('mechanisms draw from the generator that they are made with, at any depth', () => {
    const routing = { name: 'routing', heads: 2, dim: 4, clusters: 3 };
    const config = { name: 'mixed', groups: [{ heads: 2, mechanism: routing }] };
    const of = (seed: number) => {
      const made = mechanismFrom(config, { generator: new Generator(seed) });
      expect(made.config()).toEqual(mechanismFrom(config).config());
      return values(made.stateDict()['mechanisms.0.centroids'] as Tensor);
    };
    expect(of(1)).toEqual(of(1));
    expect(of(1)).not.toEqual(of(2));
    const drawn = new RoutingAttention({
      ...{ heads: 2, dim: 4, clusters: 3 },
      generator: new Generator(1),
    });
    expect(values(drawn.centroids)).toEqual(of(1));
    expect(() => mechanismFrom(routing, { generatr: 1 } as object)).toThrow(/generator/);
  });

  test('unknown names and options are refused', () => {
    expect(() => mechanismFrom({ name: 'none' })).toThrow(/'none'.*'softmax'/);
    expect(() => mechanismFrom({ name: 'softmax', casual: true })).toThrow(/casual.*causal/);
    expect(() => registerMechanism('softmax', () => new SoftmaxAttention())).toThrow(/taken/);
  });
});
