import {
  AxialPositions,
  checkpoint,
  Decoder,
  DecoderLayer,
  Dropout,
  type DType,
  device,
  Embedding,
  Encoder,
  EncoderLayer,
  FeedForward,
  type FeedForwardActivation,
  Generator,
  gradients,
  LayerNorm,
  LearnedPositions,
  Linear,
  type Module,
  MultiHeadAttention,
  normal,
  ones,
  RMSNorm,
  RotaryPositions,
  SinusoidalPositions,
  SoftmaxAttention,
  sum,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';
import { settledMemory } from '../support/memory.js';

const draw = (shape: number[], seed: number, dtype: DType = 'f64') =>
  normal(shape, { generator: new Generator(seed), dtype });
const f64 = { dtype: 'f64' } as const;

/** Gradients of a module's parameters and of `x` for a random upstream. */
function gradientsBy(module: Module, x: Tensor, run: (x: Tensor) => Tensor): Float64Array[] {
  const leaf = x.detach().requireGrad();
  const y = run(leaf);
  const up = draw([...y.shape], 99, y.dtype);
  return gradients([y], [leaf, ...module.parameters()], { gradients: [up] }).map((g) =>
    g ? values(g) : new Float64Array(0),
  );
}

describe('simple layers', () => {
  test('Linear, Embedding, norms and positions have the shapes and names of PyTorch', () => {
    expect(Object.keys(new Linear(3, 4).stateDict())).toEqual(['weight', 'bias']);
    expect(new Linear(3, 4, { bias: false }).toString()).toBe('Linear(3, 4, bias: false)');
    expect(new Linear(3, 4).forward(ones([2, 5, 3])).shape).toEqual([2, 5, 4]);
    const ids = tensor([[0, 2]], { dtype: 'i32' });
    expect(new Embedding(3, 4).forward(ids).shape).toEqual([1, 2, 4]);
    expect(new LayerNorm(4).forward(ones([2, 4])).shape).toEqual([2, 4]);
    expect(Object.keys(new RMSNorm(4).stateDict())).toEqual(['weight']);
    expect(Object.keys(new LearnedPositions(9, 4).stateDict())).toEqual(['weight']);
    expect(Object.keys(new SinusoidalPositions(9, 4).stateDict())).toEqual([]);
  });

  test('positions given are those counted', () => {
    const axial = new AxialPositions([3, 3], 4, f64);
    for (const table of [
      new LearnedPositions(9, 4, f64),
      new SinusoidalPositions(9, 4, f64),
      axial,
    ]) {
      const x = draw([2, 3, 4], 1);
      const counted = table.forward(x);
      const given = tensor(
        [
          [0, 1, 2],
          [0, 1, 2],
        ],
        { dtype: 'i32' },
      );
      expect(values(table.forward(x, given))).toEqual(values(counted));
      expect(() => table.forward(ones([1, 10, 4], f64))).toThrow(/at most maxLength, 9/);
    }
  });

  test('axial positions are rows of the tables side by side', () => {
    const positions = new AxialPositions([2, 3, 4], 9, { dims: [2, 3, 4], dtype: 'f64' });
    expect(Object.keys(positions.stateDict())).toEqual(['weights.0', 'weights.1', 'weights.2']);
    expect(positions.weights.map(({ shape }) => shape)).toEqual([
      [2, 2],
      [3, 3],
      [4, 4],
    ]);
    const y = values(positions.forward(zeros([1, 23, 9], f64)));
    const tables = positions.weights.map(values);
    for (let p = 0; p < 23; p++) {
      const rows = [Math.floor(p / 12), Math.floor(p / 4) % 3, p % 4];
      const expected = rows.flatMap((row, axis) => {
        const d = axis + 2;
        return [...(tables[axis] as Float64Array).subarray(row * d, (row + 1) * d)];
      });
      expect([...y.subarray(9 * p, 9 * p + 9)]).toEqual(expected);
    }
    expect(new AxialPositions([2, 3], 8).dims).toEqual([4, 4]);
    expect(() => new AxialPositions([6], 8)).toThrow(/two axes/);
    expect(() => new AxialPositions([2, 2.5], 8)).toThrow(/'shape' is 2.5|maxLength/);
    expect(() => new AxialPositions([2, 3], 9)).toThrow(/'dims'.*9/);
    expect(() => positions.forward(zeros([1, 25, 9], f64))).toThrow(/24/);
  });

  test('a feed-forward part in chunks is the same, in less memory', async () => {
    const x = draw([2, 9, 6], 1);
    const [whole, parts] = [null, 4].map((chunk) => new FeedForward(6, 10, { ...f64, chunk }));
    parts?.loadStateDict((whole as FeedForward).stateDict());
    const [expected, found] = [whole, parts].map((m) =>
      gradientsBy(m as FeedForward, x, (t) => (m as FeedForward).forward(t)),
    );
    found?.forEach((g, i) => {
      expectClose(g, expected?.[i] as Float64Array, { absolute: 1e-12 });
    });
    const cpu = device('cpu');
    const most = async (chunk: number | null): Promise<number> => {
      using m = new FeedForward(16, 512, { chunk });
      const input = normal([1, 4096, 16]).requireGrad();
      await settledMemory(cpu);
      cpu.resetPeakMemory();
      const before = cpu.memory().active;
      tidy(() => sum(m.forward(input)).backward());
      await cpu.synchronize();
      const { peak } = cpu.memory();
      input.grad?.dispose();
      input.dispose();
      return peak - before;
    };
    const hidden = 4096 * 512 * 4;
    expect(await most(null)).toBeGreaterThan(hidden);
    expect(await most(32)).toBeLessThan(hidden / 2);
  });

  test('dropout works in training only, and repeats with its seed', () => {
    const x = ones([4, 50]);
    const layer = new Dropout(0.5, { generator: new Generator(1) });
    const other = new Dropout(0.5, { generator: new Generator(1) });
    const y = values(layer.forward(x));
    expect(new Set(y)).toEqual(new Set([0, 2]));
    expect(values(other.forward(x))).toEqual(y);
    expect(layer.eval().forward(x)).toBe(x);
  });

  test.each<FeedForwardActivation>([
    'relu',
    'gelu',
    'geluTanh',
    'silu',
    'reluSquared',
    'swiglu',
    'geglu',
    'reglu',
  ])('FeedForward with %s', (activation) => {
    const part = new FeedForward(6, 10, { activation, ...f64 });
    const gated = activation.endsWith('glu');
    expect(part.linear1.weight.shape).toEqual([gated ? 20 : 10, 6]);
    const x = draw([2, 3, 6], 2);
    expect(part.forward(x).shape).toEqual([2, 3, 6]);
    const [gradX] = gradientsBy(part, x, (t) => part.forward(t));
    expect(gradX?.some((g) => g !== 0)).toBe(true);
  });
});

describe('MultiHeadAttention', () => {
  test('attention to itself is attention to a memory that it is', () => {
    const layer = new MultiHeadAttention({ dModel: 12, heads: 3, ...f64 });
    const x = draw([2, 5, 12], 3);
    expectClose(layer.forward(x), values(layer.forward(x, { memory: x })), { absolute: 1e-12 });
    const own = gradientsBy(layer, x, (t) => layer.forward(t));
    const other = gradientsBy(layer, x, (t) => layer.forward(t, { memory: t }));
    own.forEach((g, i) => {
      expectClose(g, other[i] as Float64Array, { absolute: 1e-11 });
    });
  });

  test('fewer key heads equal as many with shared weights', () => {
    const shared = new MultiHeadAttention({ dModel: 8, heads: 4, kvHeads: 2, ...f64 });
    const full = new MultiHeadAttention({ dModel: 8, heads: 4, ...f64 });
    const rows = values(shared.inProjWeight);
    const at = (head: number) => [...rows.subarray(head * 16, (head + 1) * 16)]; // 2 x 8 per head
    const order = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7];
    full.loadStateDict({
      ...full.stateDict(),
      in_proj_weight: tensor(order.flatMap(at), { shape: [24, 8], ...f64 }),
      'out_proj.weight': shared.outProj.weight,
      'out_proj.bias': shared.outProj.bias as Tensor,
    });
    const x = draw([2, 5, 8], 4);
    expectClose(shared.forward(x), values(full.forward(x)), { absolute: 1e-12 });
  });

  test('lengths hide padding', () => {
    for (const causal of [false, true]) {
      const mechanism = new SoftmaxAttention({ causal });
      const layer = new MultiHeadAttention({ dModel: 8, heads: 2, mechanism, ...f64 });
      const x = draw([2, 6, 8], 5);
      const lengths = tensor([6, 4], { dtype: 'i32' });
      const padded = layer.forward(x, { lengths }).slice(0, 1, 2).slice(1, 0, 4);
      const alone = layer.forward(x.slice(0, 1, 2).slice(1, 0, 4));
      expectClose(padded, values(alone), { absolute: 1e-13 });
    }
  });

  test('rows that share a memory read one copy of it', () => {
    const layer = new MultiHeadAttention({ dModel: 8, heads: 2, ...f64 });
    const [x, memory] = [draw([6, 1, 8], 6), draw([2, 5, 8], 7)];
    const lengths = tensor([5, 3], { dtype: 'i32' });
    const grouped = layer.forward(x, { memory: layer.keyValues(memory), lengths });
    for (let row = 0; row < 6; row++) {
      const of = Math.floor(row / 3);
      const alone = layer.forward(x.slice(0, row, row + 1), {
        memory: memory.slice(0, of, of + 1),
        lengths: lengths.slice(0, of, of + 1),
      });
      expectClose(grouped.slice(0, row, row + 1), values(alone), { absolute: 1e-13 });
    }
    expect(() => layer.forward(draw([5, 1, 8], 6), { memory })).toThrow(/2 rows for 5/);
  });

  test('rotary positions make scores depend on distances', () => {
    const rotary = new RotaryPositions(4);
    const layer = new MultiHeadAttention({ dModel: 8, heads: 2, rotary, ...f64 });
    const x = draw([1, 4, 8], 8);
    const plain = new MultiHeadAttention({ dModel: 8, heads: 2, ...f64 });
    plain.loadStateDict(layer.stateDict());
    expect(values(layer.forward(x))).not.toEqual(values(plain.forward(x)));
    const longer = tensor([...values(draw([1, 3, 8], 9)), ...values(x)], {
      shape: [1, 7, 8],
      ...f64,
    });
    // Only the last four keys are seen, all shifted by three positions.
    const near = new MultiHeadAttention({
      ...{ dModel: 8, heads: 2, rotary, ...f64 },
      mechanism: new SoftmaxAttention({ causal: true, window: 3 }),
    });
    near.loadStateDict(layer.stateDict());
    const last = near.forward(longer).slice(1, 6, 7);
    const short = near.forward(x).slice(1, 3, 4);
    expectClose(last, values(short), { absolute: 1e-12 });
  });

  test('head counts that do not fit are refused', () => {
    const make = (options: object) => () =>
      new MultiHeadAttention({ dModel: 8, heads: 2, ...options });
    expect(make({ heads: 3 })).toThrow(/'heads' is 3.*divide dModel, 8/);
    expect(make({ kvHeads: 3 })).toThrow(/'kvHeads' is 3.*divide heads, 2/);
    expect(make({ head: 2 })).toThrow(/'head'.*'heads'/);
    expect(make({ heads: 0 })).toThrow(/'heads' is 0/);
    expect(make({ dropout: 1 })).toThrow(/\[0, 1\)/);
    expect(() => make({})().forward(ones([2, 3, 7]))).toThrow(/\[batch, length, 8\]/);
  });
});

describe('encoder and decoder layers', () => {
  const encoderNames = [
    'self_attn.in_proj_weight',
    'self_attn.in_proj_bias',
    'self_attn.out_proj.weight',
    'self_attn.out_proj.bias',
    'linear1.weight',
    'linear1.bias',
    'linear2.weight',
    'linear2.bias',
    'norm1.weight',
    'norm1.bias',
    'norm2.weight',
    'norm2.bias',
  ];

  test('names are PyTorch names', () => {
    const layer = new EncoderLayer({ dModel: 8, heads: 2 });
    expect(Object.keys(layer.stateDict()).sort()).toEqual([...encoderNames].sort());
    const stack = new Encoder({ dModel: 8, heads: 2, layers: 2, normFirst: true, bias: false });
    expect(Object.keys(stack.stateDict())).toContain('layers.1.self_attn.in_proj_weight');
    expect(Object.keys(stack.stateDict())).toContain('norm.weight');
    expect(Object.keys(stack.stateDict()).some((name) => name.includes('bias'))).toBe(false);
    const decoder = new Decoder({ dModel: 8, heads: 2, layers: 1 });
    expect(Object.keys(decoder.stateDict())).toContain('layers.0.multihead_attn.out_proj.bias');
  });

  test.each([true, false])('recomputing layers changes nothing (normFirst %s)', (normFirst) => {
    const options = { dModel: 8, heads: 2, layers: 3, normFirst, dropout: 0.3, ...f64 };
    const make = (recompute: boolean) =>
      new Decoder({ ...options, recompute, generator: new Generator(4) });
    const [plain, recomputing] = [make(false), make(true)];
    const [x, memory] = [draw([2, 4, 8], 10), draw([2, 3, 8], 11)];
    const context = { memoryLengths: tensor([3, 2], { dtype: 'i32' }) };
    const a = gradientsBy(plain, x, (t) => plain.forward(t, memory, context));
    const b = gradientsBy(recomputing, x, (t) => recomputing.forward(t, memory, context));
    expect(b).toEqual(a);
  });

  test('a layer inside checkpoint gives its gradients', () => {
    const layer = new EncoderLayer({ dModel: 8, heads: 2, ...f64 });
    const x = draw([2, 4, 8], 12);
    const a = gradientsBy(layer, x, (t) => layer.forward(t));
    const b = gradientsBy(layer, x, (t) => checkpoint((u) => layer.forward(u), [t]));
    expect(b).toEqual(a);
  });

  test('decoding a memory step by step equals the whole', () => {
    const decoder = new Decoder({ dModel: 8, heads: 2, layers: 2, ...f64 }).eval();
    const [x, memory] = [draw([2, 4, 8], 13), draw([2, 3, 8], 14)];
    const lengths = tensor([3, 2], { dtype: 'i32' });
    const whole = decoder.forward(x, memory, { memoryLengths: lengths });
    const state = decoder.initState(memory, lengths, 2, 4);
    for (let i = 0; i < 4; i++) {
      const y = decoder.step(x.slice(1, i, i + 1), state);
      state.advance(1);
      expectClose(y, values(whole.slice(1, i, i + 1)), { absolute: 1e-12 });
    }
    expect([...state.positions.dataSync()]).toEqual([4, 4]);
    state.dispose();
  });

  test('parameters and their gradients survive tidy', () => {
    const layer = tidy(() => new Linear(2, 3));
    expect(layer).toBeDefined();
    const block = tidy(() => {
      const made = new DecoderLayer({ dModel: 8, heads: 2 });
      return () => made;
    })();
    tidy(() => {
      sum(block.forward(ones([1, 2, 8]), ones([1, 3, 8]))).backward();
    });
    for (const p of block.parameters()) expect(p.grad?.isDisposed).toBe(false);
  });

  test('misspelt options are refused', () => {
    const bad = { dModel: 8, heads: 2, normfirst: true } as never;
    expect(() => new EncoderLayer(bad)).toThrow(/normfirst.*normFirst/);
    expect(() => new DecoderLayer(bad)).toThrow(/normfirst.*normFirst/);
    expect(() => new EncoderLayer({ dModel: 8, heads: 2, norm: 'batch' as 'rms' })).toThrow(
      /batch/,
    );
    expect(() => new Encoder({ dModel: 8, heads: 2, layers: 0 })).toThrow(/'layers' is 0/);
  });
});
