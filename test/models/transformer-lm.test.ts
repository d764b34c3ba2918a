import {
  add,
  backward,
  crossEntropy,
  type DType,
  device,
  full,
  Generator,
  gpt2Name,
  gpt2Presets,
  keep,
  Linear,
  linear,
  loadGpt2,
  mul,
  type Norm,
  noGrad,
  randint,
  reshape,
  SoftmaxAttention,
  saveModule,
  saveTensors,
  slice,
  type Tensor,
  TransformerLM,
  type TransformerLMOptions,
  tensor,
  tidy,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';
import { testDevices } from '../support/devices.js';
import { leastPeak } from '../support/memory.js';
import { temporaryDirectory } from '../temporary.js';

const small = { vocabSize: 17, dModel: 24, layers: 2, heads: 4, maxLength: 32 } as const;

function model(options: Partial<TransformerLMOptions> = {}): TransformerLM {
  return new TransformerLM({ ...small, generator: new Generator(1), ...options });
}

function tokens(batch: number, length: number, seed = 2): Tensor {
  return randint([batch, length], 0, small.vocabSize, { generator: new Generator(seed) });
}

const gradientsOf = (m: TransformerLM): Float64Array[] =>
  m.parameters().map((p) => (p.grad ? values(p.grad) : new Float64Array(0)));

const shapes: [string, Partial<TransformerLMOptions>][] = [
  ['defaults', {}],
  [
    'learned positions, layer norm, gelu',
    { position: 'learned', norm: 'layer', activation: 'gelu' },
  ],
  ['sinusoidal positions, biases', { position: 'sinusoidal', bias: true, norm: 'layer' }],
  ['grouped heads, query norms', { kvHeads: 2, qkNorm: true }],
  [
    'a window, untied',
    { mechanism: { name: 'softmax', causal: true, window: 3 }, tiedEmbeddings: false },
  ],
  ['no positions', { position: 'none' }],
  [
    'axial positions, a chunked feed-forward part',
    { position: 'axial', axial: { shape: [4, 8], dims: [16, 8] }, feedForwardChunk: 5 },
  ],
  ['reversible', { reversible: true }],
  ['reversible, chunked', { reversible: true, feedForwardChunk: 4, position: 'learned' }],
];

describe('TransformerLM', () => {
  test.each(shapes)('later tokens change nothing before them: %s', (_, options) => {
    const m = model(options).eval();
    const ids = tokens(2, 9);
    const other = ids.clone();
    const changed = [...values(ids)].map((id, i) => (i % 9 === 5 ? (id + 1) % 17 : id));
    other.write(Int32Array.from(changed));
    const [a, b] = noGrad(() => [m.forward(ids), m.forward(other)]) as [Tensor, Tensor];
    expect(values(a.slice(1, 0, 5))).toEqual(values(b.slice(1, 0, 5)));
    expect(values(a.slice(1, 5, 9))).not.toEqual(values(b.slice(1, 5, 9)));
  });

  test.each(shapes)('decoding equals the whole, with any prompt: %s', (_, options) => {
    const m = model({ ...options, dtype: 'f64' }).eval();
    const ids = tokens(2, 9);
    const whole = noGrad(() => m.forward(ids));
    for (const prompt of [1, 4, 9]) {
      const state = m.initState(2, 9);
      for (let start = 0; start < 9; ) {
        const end = start === 0 ? prompt : start + 1;
        const logits = tidy(() => m.step(ids.slice(1, start, end), state));
        expectClose(logits, values(whole.slice(1, start, end)), { absolute: 1e-12 });
        start = end;
      }
      expect(state.length).toBe(9);
      expect(() => m.step(ids.slice(1, 0, 1), state)).toThrow(/room for 9/);
      state.reset();
      expectClose(m.step(ids, state), values(whole), { absolute: 1e-12 });
      state.dispose();
    }
  });

  test('greedy generation by steps equals computing everything again, token for token', () => {
    const m = model().eval();
    const last = (logits: Tensor) => {
      const row = values(logits).slice(-small.vocabSize);
      return row.indexOf(Math.max(...row));
    };
    const again = [3];
    const stepped = [3];
    const state = m.initState(1, 20);
    for (let i = 0; i < 20; i++) {
      again.push(last(noGrad(() => m.forward(tensor([again], { dtype: 'i32' })))));
      const token = stepped.at(-1) as number;
      stepped.push(last(m.step(tensor([[token]], { dtype: 'i32' }), state)));
    }
    expect(stepped).toEqual(again);
    state.dispose();
  });

  test('the loss is the mean cross entropy of the logits, in chunks as well', () => {
    const [ids, targets] = [tokens(2, 7, 3), tokens(2, 7, 4)];
    const ignored = values(targets);
    ignored[3] = -100;
    const marked = tensor(Int32Array.from(ignored), { shape: [2, 7] });
    const m = model({ dtype: 'f64' });
    const logits = noGrad(() => m.forward(ids));
    const rows = values(logits);
    let expected = 0;
    for (let i = 0; i < 14; i++) {
      if (i === 3) continue;
      const row = rows.subarray(i * 17, (i + 1) * 17);
      const target = ignored[i] as number;
      expected += Math.log(row.reduce((s, x) => s + Math.exp(x), 0)) - (row[target] as number);
    }
    const results = [undefined, 14, 5, 1].map((chunk) => {
      m.zeroGrad();
      const loss = m.loss(ids, marked, chunk === undefined ? {} : { chunk });
      loss.backward();
      expect(values(loss)[0]).toBeCloseTo(expected / 13, 10);
      return gradientsOf(m);
    });
    for (const found of results.slice(1)) {
      found.forEach((g, i) => {
        expectClose(g, results[0]?.[i] as Float64Array, { absolute: 1e-12 });
      });
    }
  });

  test('recomputation changes no gradient, dropout included', () => {
    const [ids, targets] = [tokens(2, 7, 3), tokens(2, 7, 4)];
    const run = (recompute: boolean) => {
      const m = model({ dropout: 0.2, recompute });
      tidy(() => m.loss(ids, targets).backward());
      return gradientsOf(m);
    };
    expect(run(true)).toEqual(run(false));
  });

  test('what reversible layers restore gives the gradients of what they kept, dropout included', () => {
    const [ids, targets] = [tokens(2, 7, 3), tokens(2, 7, 4)];
    const dropout = 0.2;
    const m = model({ dtype: 'f64', reversible: true, layers: 3 });
    const generator = new Generator(6);
    const run = (recorded: boolean) => {
      const n = model({ dtype: 'f64', reversible: true, layers: 3, dropout, generator });
      n.loadStateDict(m.stateDict());
      generator.seed(9);
      const x = n.embeddingDropout.forward(n.embedding.forward(ids));
      let [a, b] = [x, x];
      if (recorded)
        for (const { selfAttn, norm1, norm2, feedForward } of n.stack.layers) {
          a = add(a, selfAttn.forward(norm1.forward(b)));
          b = add(b, feedForward.forward(norm2.forward(a)));
        }
      const y = recorded ? (n.stack.norm as Norm).forward(mul(add(a, b), 0.5)) : n.stack.forward(x);
      crossEntropy(
        reshape(linear(y, n.embedding.weight), [14, -1]),
        reshape(targets, [-1]),
      ).backward();
      return gradientsOf(n);
    };
    const expected = run(true);
    run(false).forEach((g, i) => {
      expectClose(g, expected[i] as Float64Array, { absolute: 1e-12 });
    });
  });

  test('memory of reversible layers does not grow with their number', async () => {
    const cpu = device('cpu');
    const ids = randint([1, 512], 0, 17, { generator: new Generator(2) });
    const most = async (layers: number, reversible: boolean): Promise<number> => {
      const options = { dModel: 32, layers, reversible, feedForwardChunk: 128, maxLength: 512 };
      using m = model(options);
      // Gradients exist from the start: parameters are what grows with depth.
      const prepare = () => {
        for (const p of m.parameters()) p.grad = keep(full(p.shape, 0));
      };
      return await leastPeak(cpu, () => tidy(() => m.loss(ids, ids, { chunk: 128 }).backward()), {
        prepare,
      });
    };
    const [shallow, deep] = [await most(2, true), await most(32, true)];
    // A stream is 64 KiB: layers that kept just their two inputs would hold 3.8 MB more. What the host
    // runs ahead on a busy machine is less than half of that.
    expect(deep - shallow).toBeLessThan(1.5 * 2 ** 20);
    expect(await most(32, false)).toBeGreaterThan(4 * deep);
  });

  test('the table of logits never exists where the loss is chunked', async () => {
    // On the CPU chunks that are queued ahead have their logits already.
    const where = device(testDevices().at(-1) as string);
    const vocabSize = 2048;
    const ids = randint([1, 256], 0, vocabSize, { generator: new Generator(2) }).to(where);
    const options = { vocabSize, dModel: 8, heads: 2, layers: 1, maxLength: 256 };
    using m = model(options);
    m.to(where);
    const most = (chunk: number): Promise<number> =>
      leastPeak(where, () => tidy(() => m.loss(ids, ids, { chunk }).backward()), {
        prepare: () => m.zeroGrad(),
        runs: where.type === 'cuda' ? 1 : 7,
      });
    const logits = 256 * vocabSize * 4;
    expect(await most(256)).toBeGreaterThan(logits);
    expect(await most(32)).toBeLessThan(logits / 2);
  });

  test('dropout is off in eval and on in train', () => {
    const m = model({ dropout: 0.3 });
    const ids = tokens(1, 5);
    const run = () => values(noGrad(() => m.forward(ids)));
    expect(run()).not.toEqual(run());
    m.eval();
    expect(run()).toEqual(run());
  });

  test('a configuration is JSON and makes the same model', () => {
    for (const [, options] of shapes) {
      const m = model(options);
      const copy = TransformerLM.fromConfig(JSON.parse(JSON.stringify(m.config)));
      expect(copy.config).toEqual(m.config);
      copy.loadStateDict(m.stateDict());
      const ids = tokens(1, 4);
      expect(values(noGrad(() => copy.forward(ids)))).toEqual(values(noGrad(() => m.forward(ids))));
    }
    const mixed = model({
      mechanism: (layer) => new SoftmaxAttention({ causal: true, ...(layer && { window: 2 }) }),
    });
    expect(mixed.config.mechanism).toEqual([
      { name: 'softmax', causal: true },
      { name: 'softmax', causal: true, window: 2 },
    ]);
  });

  test('FLOPs are counted from shapes', () => {
    const m = model({ activation: 'relu', feedForward: 96, bias: false });
    const perLayer = 2 * (24 * 72 + 24 * 24 + 2 * 24 * 96);
    const attention = (n: number) => (2 * 24 * 2 * (n * (n + 1))) / 2 / n;
    const forward = (n: number) => 2 * (perLayer + attention(n)) + 2 * 17 * 24;
    expect(m.flopsPerToken(10, { training: false })).toBeCloseTo(forward(10), 6);
    expect(m.flopsPerToken(10)).toBeCloseTo(3 * forward(10), 6);
  });

  test('training steps keep memory flat and lower the loss', () => {
    const m = model();
    const ids = tokens(4, 16, 5);
    // Cut once: a slice that nobody disposes is freed only when the collector finds it.
    const input = ids.slice(1, 0, 15);
    const target = ids.slice(1, 1, 16);
    const losses: number[] = [];
    const live: number[] = [];
    for (let i = 0; i < 30; i++) {
      const loss = m.loss(input, target);
      loss.backward();
      noGrad(() => {
        for (const p of m.parameters()) {
          const g = values(p.grad as Tensor);
          const next = values(p).map((x, k) => x - 0.5 * (g[k] as number));
          p.write(Float32Array.from(next));
        }
      });
      m.zeroGrad();
      losses.push(values(loss)[0] as number);
      loss.dispose();
      live.push(m.embedding.weight.device.memory().active);
    }
    expect(losses.at(-1)).toBeLessThan((losses[0] as number) - 0.3);
    // The parameters alone are 57 KB. What small tensors it leaves to the collector comes and goes.
    expect(live.at(-1)).toBeLessThan((live[3] as number) + 32_768);
  });

  test.each<DType>(['bf16', 'f16'])('runs in %s', (dtype) => {
    const m = model({ dtype });
    const loss = m.loss(tokens(1, 5, 3), tokens(1, 5, 4));
    loss.backward();
    expect(values(loss)[0]).toBeCloseTo(Math.log(17), 0);
    expect(gradientsOf(m).every((g) => g.length > 0 && g.every(Number.isFinite))).toBe(true);
  });

  test('bad options are typed errors', () => {
    expect(() => model({ vocabsize: 3 } as object)).toThrow(/vocabsize.*vocabSize/);
    expect(() => model({ activation: 'swish' as 'silu' })).toThrow(/swish/);
    expect(() => model({ position: 'absolute' as 'none' })).toThrow(/absolute/);
    expect(() => model({ layers: 1.5 })).toThrow(/'layers' is 1.5/);
    expect(() => model({ heads: 5 })).toThrow(/heads/);
    expect(() => model({ position: 'axial' })).toThrow(/'axial' is null.*position/);
    const axial = { shape: [4, 8], dims: [20, 5] };
    expect(() => model({ position: 'axial', axial })).toThrow(/'dims'.*24/);
    expect(() => model({ position: 'axial', axial: { shape: [2, 8] } })).toThrow(/holds 16/);
    expect(() => model({ reversible: true, recompute: true })).toThrow(/recompute.*Choose one/);
    expect(() => model({ feedForwardChunk: 0 })).toThrow(/'chunk' is 0/);
    expect(() => model({ mechanism: () => new SoftmaxAttention() })).toThrow(
      /softmax.*full.*causal/,
    );
    expect(() => model({ mechanism: { name: 'magic' } })).toThrow(/magic/);
    expect(() => model({ mechanism: [{ name: 'softmax', causal: true }] })).toThrow(/list of 1/);
    expect(() => model({ position: 'learned' }).initState(1, 33)).toThrow(/32 positions/);
    expect(() => model().initState(0, 33)).toThrow(/'batch' is 0/);
    expect(() => model().loss(tokens(1, 3), tokens(1, 3), { chunks: 2 } as object)).toThrow(
      /chunk/,
    );
    const state = model().initState(2, 3);
    expect(() => model().step(tokens(1, 2), state)).toThrow(/\[2, T\]/);
  });
});

describe('GPT-2', () => {
  const path = temporaryDirectory();

  test('presets are the published sizes', () => {
    expect(gpt2Presets.xl).toMatchObject({ dModel: 1600, layers: 48, heads: 25 });
    const { vocabSize: v, dModel: d, layers, maxLength } = gpt2Presets.small;
    expect(v * d + maxLength * d + layers * (12 * d * d + 13 * d) + 2 * d).toBe(124439808);
  });

  test('names', () => {
    expect(gpt2Name('transformer.h.3.mlp.c_fc.bias')).toBe('layers.3.linear1.bias');
    expect(gpt2Name('h.0.attn.bias')).toBeNull();
    expect(gpt2Name('something')).toBe('something');
  });

  test.each([true, false])(
    'a file loads with its matrices as [in, out]: %s',
    async (transposed) => {
      const m = model({ ...gpt2Presets.small, ...small, dropout: 0 }).eval();
      const theirs: Record<string, Tensor> = {};
      for (const [name, p] of m.namedParameters()) {
        const matrix = /(in_proj_|out_proj\.|linear\d\.)weight$/.test(name);
        const to = name
          .replace(/^embedding/, 'wte')
          .replace(/^positions/, 'wpe')
          .replace(/^norm/, 'ln_f')
          .replace(/^layers\.(\d+)\.norm(\d)/, 'h.$1.ln_$2')
          .replace(/^layers\.(\d+)\.self_attn\.in_proj_/, 'h.$1.attn.c_attn.')
          .replace(/^layers\.(\d+)\.self_attn\.out_proj/, 'h.$1.attn.c_proj')
          .replace(/^layers\.(\d+)\.linear1/, 'h.$1.mlp.c_fc')
          .replace(/^layers\.(\d+)\.linear2/, 'h.$1.mlp.c_proj');
        theirs[to] = matrix && transposed ? p.detach().transpose() : p;
      }
      theirs['h.0.attn.bias'] = tensor([1]);
      await saveTensors(path('gpt2.safetensors'), theirs);
      const loaded = (await loadGpt2(path('gpt2.safetensors'), { heads: 4 })).eval();
      expect(loaded.config).toEqual({ ...m.config, dropout: 0.1 });
      const ids = tokens(1, 6);
      expect(values(noGrad(() => loaded.forward(ids)))).toEqual(
        values(noGrad(() => m.forward(ids))),
      );
    },
  );

  test('another file is refused', async () => {
    await saveModule(path('other.safetensors'), new Linear(2, 2));
    await expect(loadGpt2(path('other.safetensors'))).rejects.toThrow(/holds no GPT-2/);
  });
});

describe('documents packed into one row', () => {
  const ids = tokens(1, 30);
  const segmentIds = tensor(
    Int32Array.from({ length: 30 }, (_, i) => (i < 12 ? 0 : 1)),
    {
      shape: [1, 30],
    },
  );

  test.each([false, true])('are independent of each other, recompute: %s', (recompute) => {
    const m = model({ recompute });
    const logits = m.forward(ids, { segmentIds });
    const alone = m.forward(slice(ids, 1, 0, 12));
    expect(values(slice(logits, 1, 0, 12))).toEqual(values(alone));
    const other = tensor(
      Int32Array.from([...values(ids)].map((id, i) => (i < 12 ? 16 - id : id))),
      {
        shape: [1, 30],
      },
    );
    const changed = m.forward(other, { segmentIds });
    expect(values(slice(changed, 1, 12, 30))).toEqual(values(slice(logits, 1, 12, 30)));
    expect(values(slice(m.forward(other), 1, 12, 30))).not.toEqual(
      values(slice(m.forward(ids), 1, 12, 30)),
    );
    const loss = m.loss(ids, ids, { segmentIds });
    backward(loss);
    expect(m.parameters().every((p) => p.grad !== null)).toBe(true);
  });

  test('are refused by mechanisms without segments', () => {
    class Other extends SoftmaxAttention {
      override readonly segments = false;
    }
    const m = model({ mechanism: () => new Other({ causal: true }) });
    expect(() => m.forward(ids, { segmentIds })).toThrow(/'segmentIds'.*no segments/s);
  });
});
