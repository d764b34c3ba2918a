/** Decoding steps recorded once and replayed: the same tokens, on every device. */
import {
  type DType,
  device,
  type GenerateOptions,
  Generator,
  generate,
  generateText,
  greedy,
  type Mechanism,
  mul,
  randint,
  SoftmaxAttention,
  Transformer,
  TransformerLM,
  type TransformerLMOptions,
  tidy,
} from 'longspan';
import { describeCuda, testDevices } from '../support/devices.js';
import { collect } from '../support/generation.js';
import { settledMemory } from '../support/memory.js';

const sizes = { vocabSize: 40, dModel: 16, layers: 2, heads: 2, maxLength: 48 } as const;

const generator = new Generator(1);
const models: TransformerLM[] = [];
const free = (m: TransformerLM) => m.parameters().forEach((p) => void p.dispose());
afterEach(() => models.splice(0).forEach(free));

/** The same weights on every device, large enough that likely tokens stand clear of each other. */
function model(on: string, options: Partial<TransformerLMOptions> = {}): TransformerLM {
  const { dtype = 'f32', ...rest } = options;
  const drawn = new TransformerLM({ ...sizes, generator: generator.seed(1), ...rest });
  const made = new TransformerLM({ ...sizes, ...rest, dtype, device: on });
  models.push(made);
  tidy(() => {
    const weights = Object.entries(drawn.stateDict()).map(([name, p]) => {
      const wide = p.rank === 2 ? mul(p.detach(), 20) : p.detach();
      return [name, wide.to(dtype).to(on)] as const;
    });
    made.loadStateDict(Object.fromEntries(weights));
  });
  free(drawn);
  return made;
}

/** A mechanism that keeps something on the host, or says so. */
class Stubborn extends SoftmaxAttention {
  override readonly capturable = false;
}
const stubborn = (): Mechanism => new Stubborn({ causal: true });

const choices: [string, GenerateOptions][] = [
  ['the likeliest', { temperature: 0 }],
  ['sampled', { seed: 3 }],
  ['top-k and top-p', { topK: 9, topP: 0.8, seed: 4, temperature: 1.5 }],
];
const kinds: [string, Partial<TransformerLMOptions>][] = [
  ['defaults', {}],
  ['learned positions, layer norm', { position: 'learned', norm: 'layer', activation: 'gelu' }],
  [
    'grouped heads, a window',
    {
      kvHeads: 1,
      mechanism: { name: 'softmax', causal: true, window: 5 },
    },
  ],
];

describe.each(testDevices())('on %s', (name) => {
  const on = device(name);
  const usage = async () => {
    await on.synchronize();
    return on.memory().active;
  };

  test.each(choices)(
    'replays give the tokens of steps and of recomputation: %s',
    async (_, options) => {
      const m = model(name);
      const step = jest.spyOn(m, 'step');
      const wanted = await collect(m, { ...options, maxTokens: 16, capture: false });
      expect(step).toHaveBeenCalledTimes(16);
      expect(new Set(wanted).size).toBeGreaterThan(3);
      step.mockClear();
      expect(await collect(m, { ...options, maxTokens: 16, capture: true })).toEqual(wanted);
      expect(step).toHaveBeenCalledTimes(3); // the prompt, a step, its recording
      expect(await collect(m, { ...options, maxTokens: 16, useCache: false })).toEqual(wanted);
    },
  );

  test.each(kinds)('whatever the model: %s', async (_, options) => {
    const m = model(name, options);
    const wanted = await collect(m, { seed: 7, maxTokens: 16, capture: false });
    expect(await collect(m, { seed: 7, maxTokens: 16, capture: true })).toEqual(wanted);
  });

  test.each<DType>(['bf16', 'f16'])('and whatever its dtype: %s', async (dtype) => {
    const m = model(name, { dtype });
    const wanted = await collect(m, { seed: 8, maxTokens: 12, capture: false });
    expect(await collect(m, { seed: 8, maxTokens: 12, capture: true })).toEqual(wanted);
  });

  test('a window that moves records its steps anew', async () => {
    const m = model(name, { maxLength: 8 });
    const options = { maxTokens: 20, seed: 5, overflow: 'window' } as const;
    const wanted = await collect(m, { ...options, useCache: false });
    expect(await collect(m, { ...options, capture: false })).toEqual(wanted);
    expect(await collect(m, { ...options, capture: true })).toEqual(wanted);
  });

  test('stop tokens and texts, and the end, leave no memory behind', async () => {
    const m = model(name, { vocabSize: 256 });
    const text = [...'abcdefghij'].map((c) => c.charCodeAt(0));
    const all = await collect(m, { seed: 2, maxTokens: 20, capture: true }, text);
    const before = (await settledMemory(on)).active;
    expect(await collect(m, { seed: 2, maxTokens: 20, capture: true }, text)).toEqual(all);
    expect(await usage()).toBe(before);
    const stop = all[9] as number;
    const short = await collect(m, { seed: 2, maxTokens: 20, stop: [stop], capture: true }, text);
    expect(short).toEqual(all.slice(0, all.indexOf(stop)));
    expect(await usage()).toBe(before);
    const whole = Buffer.from(all).toString();
    const end = whole.slice(6, 7);
    let written = '';
    const options = { seed: 2, maxTokens: 20, stop: [end], capture: true };
    for await (const piece of generateText(m, 'abcdefghij', options)) written += piece;
    expect(written).toBe(whole.slice(0, whole.indexOf(end)));
    expect(await usage()).toBe(before);
  });

  test('so do a signal and a loop that is left', async () => {
    const m = model(name);
    await collect(m, { maxTokens: 4, capture: true });
    const before = (await settledMemory(on)).active;
    const controller = new AbortController();
    const run = async () => {
      let made = 0;
      const options = { maxTokens: 40, capture: true, signal: controller.signal };
      for await (const _ of generate(m, [1], options)) if (++made === 5) controller.abort();
    };
    await expect(run()).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(await usage()).toBe(before);
    let made = 0;
    for await (const _ of generate(m, [1], { maxTokens: 40, capture: true })) {
      if (++made === 5) break;
    }
    expect(await usage()).toBe(before);
    expect(m.training).toBe(true);
  });

  test('weights that are NaN are a typed error, also in a replay', async () => {
    const m = model(name);
    const run = async () => {
      let made = 0;
      for await (const _ of generate(m, [1], { maxTokens: 20, capture: true })) {
        if (++made === 6) m.embedding.weight.write(new Float32Array(40 * 16).fill(Number.NaN));
      }
    };
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_OPERATOR_FAILED',
      operator: 'generate',
      remedy: expect.stringMatching(/earlier checkpoint/),
    });
  });

  test('a mechanism decides whether its steps are recorded, and nothing falls back in silence', async () => {
    const m = model(name, { mechanism: stubborn });
    expect(m.capturable).toBe(false);
    await expect(collect(m, { maxTokens: 9, capture: true })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      argument: 'capture',
    });
    const options = { maxTokens: 9, capture: true };
    await expect(collect(model(name), { ...options, useCache: false })).rejects.toMatchObject({
      argument: 'capture',
    });
    await expect(collect(m, { maxTokens: 9, capture: 1 } as object)).rejects.toMatchObject({
      code: 'ERR_OPTION',
    });
    const step = jest.spyOn(m, 'step');
    const wanted = await collect(model(name), { seed: 1, maxTokens: 10 });
    expect(await collect(m, { seed: 1, maxTokens: 10 })).toEqual(wanted);
    expect(step).toHaveBeenCalledTimes(10);
  });

  test('a recorded step that is replayed by hand: the state counts, and refuses what has no room', () => {
    const m = model(name).eval();
    const state = m.initState(1, 5);
    const ids = randint([1, 1], 0, 40, { device: name });
    m.step(ids, state).dispose();
    using graph = on.capture(() => m.step(ids, state));
    for (let i = 2; i < 5; i++) {
      state.replaying(1);
      graph.replay();
    }
    expect(state.length).toBe(5);
    expect([...state.positions.dataSync()]).toEqual([5]);
    expect(() => state.replaying(1)).toThrow(/'count' is 1 after 5 tokens.*room for 5/);
    state.dispose();
  });

  test('the encoder-decoder, greedily', async () => {
    const make = (mechanism?: () => Mechanism) =>
      new Transformer({
        ...{ vocabSize: 20, dModel: 16, heads: 2, feedForward: 32, maxLength: 16 },
        ...{ encoderLayers: 1, decoderLayers: 2, device: name },
        ...(mechanism && { mechanism }),
        generator: new Generator(2, name),
      }).eval();
    const m = make();
    const source = randint([3, 5], 1, 20, { generator: new Generator(3, name) });
    const options = { bos: 1, eos: 2, maxSteps: 12 };
    const wanted = await greedy(m, source, { ...options, capture: false });
    const step = jest.spyOn(m, 'step');
    expect(await greedy(m, source, { ...options, capture: true })).toEqual(wanted);
    expect(step.mock.calls.length).toBeLessThanOrEqual(2);
    await expect(greedy(make(stubborn), source, { ...options, capture: true })).rejects.toThrow(
      /cannot be recorded/,
    );
  });
});

describeCuda('both devices', () => {
  test.each(choices)('the same seed writes the same: %s', async (_, options) => {
    const [cpu, cuda] = [model('cpu'), model('cuda')];
    const wanted = await collect(cpu, { ...options, maxTokens: 24 });
    const step = jest.spyOn(cuda, 'step');
    expect(await collect(cuda, { ...options, maxTokens: 24 })).toEqual(wanted);
    expect(step).toHaveBeenCalledTimes(3); // recorded without being asked
  });
});
