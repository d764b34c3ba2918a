import {
  Adam,
  AdamW,
  ArgumentError,
  CheckpointError,
  crossEntropy,
  DisposedError,
  device,
  GraphError,
  noamSchedule,
  type Optimizer,
  ones,
  SGD,
  type Tensor,
  tensor,
  tidy,
  transpose,
  zeros,
} from 'longspan';
import {
  type AdamReferenceOptions,
  adamReference,
  type SgdReferenceOptions,
  sgdReference,
} from '../reference/optimizer.js';
import { expectClose, type FloatType, rounded, tensorOf, values } from '../support/compare.js';
import { describeCuda } from '../support/devices.js';
import { Random } from '../support/random.js';

const list = (t: Tensor) => Array.from(values(t));

/** Steps with given gradients; the parameter after each. */
function run(
  optimizer: Optimizer,
  param: Tensor,
  gradients: readonly ArrayLike<number>[],
): Float64Array[] {
  return gradients.map((g) => {
    param.grad = tensorOf(g, param.shape, param.dtype);
    optimizer.step();
    optimizer.zeroGrad();
    return values(param);
  });
}

const random = new Random(1);
// Longer than a tile, with a rest, and longer than a piece.
const start = random.normal(16384 + 700);
const gradients = [1, 2, 3, 4].map(() => random.normal(start.length));

const adams: (AdamReferenceOptions & { name: string })[] = [
  { name: 'Adam', lr: 1e-2 },
  { name: 'Adam', lr: 1e-2, weightDecay: 0.1, betas: [0.8, 0.98], eps: 1e-9 },
  { name: 'AdamW', lr: 1e-2, weightDecay: 0.1, decoupled: true },
  { name: 'AdamW', lr: 1e-2, weightDecay: 0.01, decoupled: true, amsgrad: true },
];
const sgds: SgdReferenceOptions[] = [
  { lr: 0.1 },
  { lr: 0.1, momentum: 0.9, weightDecay: 0.01 },
  { lr: 0.1, momentum: 0.9, nesterov: true },
  { lr: 0.1, momentum: 0.5, dampening: 0.3 },
];

describe.each(['f64', 'f32'] as const)('in %s', (dtype) => {
  const scaled = { absolute: dtype === 'f64' ? 1e-8 : 2e-6 };

  test.each(adams)('$name equals its twin: %j', ({ name, decoupled, ...options }) => {
    const param = tensorOf(start, [start.length], dtype).requireGrad();
    const optimizer = name === 'Adam' ? new Adam([param], options) : new AdamW([param], options);
    const expected = adamReference(
      rounded(start, dtype),
      gradients.map((g) => rounded(g, dtype)),
      { ...options, decoupled: decoupled ?? false },
    );
    run(optimizer, param, gradients).forEach((p, i) => {
      expectClose(p, expected[i] as Float64Array, scaled, `step ${i + 1}`);
    });
  });

  test.each(sgds)('SGD equals its twin: %j', (options) => {
    const param = tensorOf(start, [start.length], dtype).requireGrad();
    const expected = sgdReference(
      rounded(start, dtype),
      gradients.map((g) => rounded(g, dtype)),
      options,
    );
    run(new SGD([param], options), param, gradients).forEach((p, i) => {
      expectClose(p, expected[i] as Float64Array, scaled, `step ${i + 1}`);
    });
  });
});

describe.each(['bf16', 'f16'] as const)('parameters in %s', (dtype: FloatType) => {
  const small = Array.from({ length: 50 }, () => gradients[0]?.slice(0, 99) as Float64Array);
  const narrow = small.map((g) => rounded(g, dtype));
  const from = rounded(start.slice(0, 99), dtype);

  test('follow an f32 copy, so that small steps are not lost', () => {
    const param = tensorOf(from, [99], dtype).requireGrad();
    const optimizer = new AdamW([['w', param]], { lr: 1e-4 });
    const expected = adamReference(from, narrow, { lr: 1e-4, weightDecay: 0.01, decoupled: true });
    const last = run(optimizer, param, small).at(-1) as Float64Array;
    const master = optimizer.state()['w.master'] as Tensor;
    expect(master.dtype).toBe('f32');
    expectClose(master, expected.at(-1) as Float64Array, { absolute: 2e-5 });
    expect(last).toEqual(rounded(values(master), dtype));
  });

  test('may do without', () => {
    const param = tensorOf(from, [99], dtype).requireGrad();
    const optimizer = new SGD([['w', param]], { lr: 0.1, masterWeights: false });
    const [after] = run(optimizer, param, small.slice(0, 1)) as [Float64Array];
    const exact = sgdReference(from, narrow.slice(0, 1), { lr: 0.1 })[0] as Float64Array;
    expect(Array.from(after)).toEqual(Array.from(rounded(exact, dtype)));
    expect(Object.keys(optimizer.state())).not.toContain('w.master');
  });
});

test('a list of mixed precision is one call', () => {
  const [a, b] = [ones([3]).requireGrad(), tensorOf([1, 1], [2], 'bf16').requireGrad()];
  a.grad = ones([3]);
  b.grad = tensorOf([1, 1], [2], 'bf16');
  new SGD([a, b], { lr: 0.5 }).step();
  expect([...list(a), ...list(b)]).toEqual([0.5, 0.5, 0.5, 0.5, 0.5]);
});

test('gradients and parameters are taken by stride', () => {
  const param = transpose(tensorOf([1, 2, 3, 4, 5, 6], [2, 3], 'f32')).requireGrad(false);
  const leaf = param.detach().requireGrad();
  leaf.grad = transpose(tensorOf([1, 0, 0, 0, 0, 1], [2, 3], 'f32'));
  new SGD([leaf], { lr: 1 }).step();
  expect(list(param)).toEqual([0, 4, 2, 5, 3, 5]);
});

test('groups have rates and options of their own; a schedule sets the rate of each step', () => {
  const [a, b] = [zeros([1]).requireGrad(), zeros([1]).requireGrad()];
  const rate = noamSchedule({ modelDim: 64, warmup: 4 });
  const optimizer = new SGD([{ params: [a], lr: 0.25 }, { params: [b] }], { lr: rate });
  expect(optimizer.learningRate(1)).toBe(rate(1));
  for (let t = 0; t < 3; t++) {
    a.grad = ones([1]);
    b.grad = ones([1]);
    optimizer.step();
  }
  expect(a.itemSync()).toBe(-0.75);
  expect(b.itemSync()).toBeCloseTo(-(rate(1) + rate(2) + rate(3)), 6);
  expect(optimizer.learningRate(1)).toBe(rate(3));
  optimizer.setLearningRate(0, 0);
  optimizer.step();
  expect(a.itemSync()).toBe(-0.75);
  expect(optimizer.steps).toBe(4);
});

test('gradScale and skip come from the device', () => {
  const w = ones([2]).requireGrad();
  const optimizer = new AdamW([['w', w]], { lr: 0.1 });
  w.grad = tensor([1, Number.NaN]);
  optimizer.step({ skip: tensor([1]) });
  expect(list(w)).toEqual([1, 1]);
  expect((optimizer.state()['group.0.step'] as Tensor).itemSync()).toBe(0);
  const plain = new SGD([w], { lr: 1 });
  w.grad = tensor([4, 8]);
  plain.step({ gradScale: tensor([0.25]), skip: tensor([0], { dtype: 'i32' }) });
  expect(list(w)).toEqual([0, -1]);
});

test('parameters without a gradient rest', () => {
  const [a, b] = [ones([1]).requireGrad(), ones([1]).requireGrad()];
  const optimizer = new AdamW([a, b]);
  a.grad = ones([1]);
  optimizer.step();
  expect(a.itemSync()).toBeLessThan(1);
  expect(b.itemSync()).toBe(1);
  expect(Object.keys(optimizer.state()).sort()).toEqual([
    '0.exp_avg',
    '0.exp_avg_sq',
    'group.0.lr',
    'group.0.step',
    'steps',
  ]);
});

describe('state', () => {
  const make = () => {
    const params = [
      ['w', tensorOf(start.slice(0, 20), [4, 5], 'f32').requireGrad()],
      ['b', tensorOf(start.slice(20, 25), [5], 'bf16').requireGrad()],
    ] as [string, Tensor][];
    const optimizer = new AdamW(params, {
      lr: noamSchedule({ modelDim: 16, warmup: 3 }),
      amsgrad: true,
    });
    return { params, optimizer };
  };
  const stepOf = ({ params, optimizer }: ReturnType<typeof make>, i: number) => {
    const g = gradients[i % 4] as Float64Array;
    for (const [, p] of params) p.grad = tensorOf(g.slice(0, p.size), p.shape, p.dtype);
    optimizer.step();
  };

  test('a resumed run continues bit for bit', () => {
    const whole = make();
    for (let i = 0; i < 4; i++) stepOf(whole, i);
    const first = make();
    for (let i = 0; i < 2; i++) stepOf(first, i);
    const second = make();
    second.params.forEach(([, p], i) => {
      const [, from] = first.params[i] as [string, Tensor];
      p.write(from.dataSync());
    });
    second.optimizer.loadState(first.optimizer.state());
    expect(second.optimizer.steps).toBe(2);
    for (let i = 2; i < 4; i++) stepOf(second, i);
    const shown = ({ params, optimizer }: ReturnType<typeof make>) =>
      [...params, ...Object.entries(optimizer.state())].map(([name, t]) => [name, list(t)]);
    expect(shown(second)).toEqual(shown(whole));
  });

  test('outlives tidy and is freed by dispose', () => {
    const cpu = device('cpu');
    const run_ = make();
    cpu.synchronizeSync();
    const before = cpu.memory().liveBuffers;
    tidy(() => stepOf(run_, 0));
    run_.optimizer.zeroGrad();
    tidy(() => stepOf(run_, 1));
    run_.optimizer.zeroGrad();
    run_.optimizer.dispose();
    cpu.synchronizeSync();
    expect(cpu.memory().liveBuffers).toBe(before - 2); // its rate and its step count
  });

  test('what does not fit is refused and changes nothing', () => {
    const run_ = make();
    stepOf(run_, 0);
    const state = run_.optimizer.state();
    const fresh = make().optimizer;
    const wrong = (changes: Record<string, Tensor | undefined>) => {
      const merged = Object.entries({ ...state, ...changes }).filter(([, t]) => t !== undefined);
      return () => fresh.loadState(Object.fromEntries(merged) as Record<string, Tensor>);
    };
    expect(wrong({ 'w.exp_avg': zeros([5, 4]) })).toThrow(
      /'w\.exp_avg' is f32\[5, 4\].*f32\[4, 5\]/,
    );
    expect(wrong({ 'group.0.step': undefined })).toThrow(CheckpointError);
    expect(wrong({ 'x.exp_avg': zeros([1]) })).toThrow(/'x\.exp_avg' is not a state/);
    expect(fresh.steps).toBe(0);
    expect(Object.keys(fresh.state())).toHaveLength(3);
  });
});

test('a step between forward and backward is noticed', () => {
  const x = ones([2]).requireGrad();
  const loss = crossEntropy(x, tensor(0, { dtype: 'i32' }));
  x.grad = ones([2]);
  new SGD([x], { lr: 1 }).step();
  expect(() => loss.backward()).toThrow(GraphError);
});

test('wrong arguments are named', () => {
  const w = ones([2]).requireGrad();
  expect(() => new AdamW([])).toThrow(/AdamW: 'params' is empty/);
  expect(() => new AdamW(w as never)).toThrow(/'params'/);
  expect(() => new AdamW([w, w])).toThrow(/'params\[1\]' is '0' again/);
  expect(
    () =>
      new AdamW([
        ['a', w],
        ['a', ones([1])],
      ]),
  ).toThrow(/named 'a'/);
  expect(() => new AdamW([ones([1], { dtype: 'i32' })])).toThrow(/floating leaves/);
  expect(() => new AdamW([w], { lr: -1 })).toThrow(/'lr' is -1/);
  expect(() => new AdamW([w], { weightdecay: 1 } as never)).toThrow(/Did you mean 'weightDecay'/);
  expect(() => new AdamW([{ params: [w], beta: 1 } as never])).toThrow(ArgumentError);
  expect(() => new SGD([w]).setLearningRate(1, 3)).toThrow(/'group' is 3/);
  w.grad = ones([2]);
  expect(() => new AdamW([w], { betas: [1, 0.9] }).step()).toThrow(/AdamW: 'betas' is \[1, 0.9\]/);
  expect(() => new SGD([w], { nesterov: true }).step()).toThrow(/'nesterov' is true/);
  expect(() => new SGD([w]).step({ gradScale: ones([2]) })).toThrow(/'gradScale' is f32\[2\]/);
  w.dispose();
  expect(() => new SGD([w])).toThrow(DisposedError);
});

describeCuda('on cuda', () => {
  const shapes = [[16384 + 700], [3, 5], [1], [40, 9]];
  // More tensors than one launch takes.
  const many = [...shapes, ...Array.from({ length: 45 }, (_, i) => [i + 1])];

  /** Parameters after three steps on a device; gradients are strided where there are two axes. */
  const trained = (
    on: string,
    make: (params: Tensor[]) => Optimizer,
    dtype: FloatType,
    settings: { gradScale?: Tensor; skip?: Tensor } = {},
  ): Float64Array[] => {
    const draw = new Random(7);
    const size = (shape: number[]) => shape.reduce((n, d) => n * d, 1);
    const params = many.map((shape) =>
      tensorOf(draw.normal(size(shape)), shape, dtype)
        .to(on)
        .requireGrad(),
    );
    const optimizer = make(params);
    for (let step = 0; step < 3; step++) {
      for (const p of params) {
        const g = tensorOf(draw.normal(p.size), [...p.shape].reverse(), dtype).to(on);
        p.grad = p.rank === 2 ? transpose(g) : g;
      }
      optimizer.step(settings);
      optimizer.zeroGrad();
    }
    return params.map(values);
  };
  const kinds: [string, (params: Tensor[]) => Optimizer][] = [
    ['Adam', (p) => new Adam(p, { lr: 1e-2, weightDecay: 0.1 })],
    ['AdamW with AMSGrad', (p) => new AdamW(p, { lr: 1e-2, weightDecay: 0.1, amsgrad: true })],
    ['SGD', (p) => new SGD(p, { lr: 0.1 })],
    ['SGD with momentum', (p) => new SGD(p, { lr: 0.1, momentum: 0.9, nesterov: true })],
  ];

  test.each(kinds)('%s takes the steps of the CPU', (name, make) => {
    for (const dtype of name === 'Adam' ? (['f32', 'bf16', 'f16'] as const) : (['f32'] as const)) {
      const [expected, actual] = ['cpu', 'cuda'].map((on) => trained(on, make, dtype));
      actual?.forEach((p, i) => {
        // A rounding may go the other way in 16 bits, where the device fuses a multiplication.
        const unit = { f64: 0, f32: 1e-6, bf16: 2 ** -7, f16: 2 ** -10 }[dtype];
        expectClose(p, expected?.[i] as Float64Array, { absolute: unit / 4, relative: unit });
      });
    }
  });

  test('a factor on the gradients, and steps that are skipped', () => {
    const make = (params: Tensor[]) => new SGD(params, { lr: 0.1, momentum: 0.5 });
    const run = (on: string, scale: number, skip: number) =>
      trained(on, make, 'f32', {
        gradScale: tensor([scale]).to(on),
        skip: tensor([skip]).to(on),
      });
    const [expected, actual] = ['cpu', 'cuda'].map((on) => run(on, 0.25, 0));
    actual?.forEach((p, i) => {
      expectClose(p, expected?.[i] as Float64Array, { absolute: 1e-6 });
    });
    expect(run('cuda', 1, 1)).toEqual(run('cpu', 1, 1));
  });
});
