import {
  type DecoderModel,
  type DecoderState,
  type GenerateOptions,
  generate,
  generateText,
  Module,
  parameter,
  type Tensor,
  tensor,
  zeros,
} from 'longspan';

/** Logits that depend on every token before; the state holds those tokens. */
class Echo extends Module implements DecoderModel {
  readonly weight = parameter(zeros([1]));
  readonly config: { vocabSize: number; maxLength?: number };
  steps = 0;

  constructor(
    vocabSize: number,
    maxLength?: number,
    private readonly next?: (seen: readonly number[]) => number,
  ) {
    super();
    this.config = { vocabSize, maxLength };
  }

  private logits(seen: readonly number[], count: number): Tensor {
    const { vocabSize } = this.config;
    const rows = new Float32Array(count * vocabSize);
    for (let t = 0; t < count; t++) {
      const prefix = seen.slice(0, seen.length - count + t + 1);
      if (this.next) rows[t * vocabSize + this.next(prefix)] = 100;
      else {
        let h = 17;
        for (const id of prefix) h = (Math.imul(h, 31) + id) | 0;
        for (let v = 0; v < vocabSize; v++) rows[t * vocabSize + v] = Math.sin(h + v * v) * 2;
      }
    }
    return tensor(rows, { shape: [1, count, vocabSize] });
  }

  forward(ids: Tensor): Tensor {
    return this.logits([...ids.dataSync()] as number[], ids.dim(1));
  }
  initState(): DecoderState & { seen: number[] } {
    return { seen: [], dispose: () => undefined };
  }
  step(ids: Tensor, state: DecoderState & { seen: number[] }): Tensor {
    this.steps++;
    state.seen.push(...([...ids.dataSync()] as number[]));
    return this.logits(state.seen, ids.dim(1));
  }
}

async function collect(
  model: Echo,
  prompt: readonly number[],
  options: GenerateOptions,
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generate(model, prompt, options)) tokens.push(token);
  return tokens;
}

test.each([
  ['greedy', { temperature: 0 }],
  ['sampled', { seed: 3 }],
  ['top-k and top-p', { topK: 5, topP: 0.8, seed: 4 }],
])('the cache gives the same tokens: %s', async (_name, options) => {
  const model = new Echo(16);
  const cached = await collect(model, [1, 2, 3], { ...options, maxTokens: 40 });
  expect(cached).toHaveLength(40);
  expect(model.steps).toBe(40);
  expect(await collect(model, [1, 2, 3], { ...options, maxTokens: 40, useCache: false })).toEqual(
    cached,
  );
});

test('seeds decide, and the mode of the model is put back', async () => {
  const model = new Echo(64);
  const one = await collect(model, [0], { seed: 1, maxTokens: 20 });
  expect(await collect(model, [0], { seed: 1, maxTokens: 20 })).toEqual(one);
  expect(await collect(model, [0], { seed: 2, maxTokens: 20 })).not.toEqual(one);
  expect(model.training).toBe(true);
});

test('a window that moves is the same with and without the cache', async () => {
  const model = new Echo(16, 8);
  const options = { maxTokens: 50, seed: 5, overflow: 'window' as const };
  const cached = await collect(model, [1, 2, 3], options);
  expect(await collect(model, [1, 2, 3], { ...options, useCache: false })).toEqual(cached);
  const long = Array.from({ length: 30 }, (_, i) => i % 16);
  expect(await collect(model, long, options)).toHaveLength(50);
});

test('what is too long is refused, with the lengths and the way out', async () => {
  const model = new Echo(16, 8);
  await expect(collect(model, [1, 2, 3], { maxTokens: 7 })).rejects.toMatchObject({
    code: 'ERR_VALUE',
    message: expect.stringMatching(/3 tokens, with 7 to follow.*reads 8 tokens.*window/),
  });
  expect(await collect(model, [1, 2, 3], { maxTokens: 6 })).toHaveLength(6);
});

test('a stop token ends and is not yielded', async () => {
  const model = new Echo(16, undefined, (seen) => seen.length);
  expect(await collect(model, [9], { stop: [4], temperature: 0 })).toEqual([1, 2, 3]);
});

test.each([
  [[], {}, 'prompt'],
  [[16], {}, 'prompt'],
  [[1.5], {}, 'prompt'],
  [[1], { maxTokens: -1 }, 'maxTokens'],
  [[1], { overflow: 'wrap' }, 'overflow'],
  [[1], { topK: 0 }, 'topK'],
  [[1], { temprature: 1 }, 'temprature'],
])('refuses prompt %p with %p', async (prompt, options, argument) => {
  await expect(collect(new Echo(16), prompt, options as GenerateOptions)).rejects.toMatchObject({
    argument,
    remedy: expect.any(String),
  });
});

test('NaN logits are a typed error', async () => {
  const model = new Echo(16);
  model.step = () => tensor(new Float32Array(16).fill(Number.NaN), { shape: [1, 1, 16] });
  await expect(collect(model, [1], {})).rejects.toMatchObject({ code: 'ERR_OPERATOR_FAILED' });
});

test('a signal ends it', async () => {
  const controller = new AbortController();
  const made: number[] = [];
  const run = async () => {
    for await (const token of generate(new Echo(16), [1], { signal: controller.signal })) {
      made.push(token);
      if (made.length === 3) controller.abort();
    }
  };
  await expect(run()).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  expect(made).toHaveLength(3);
});

/** Writes a fixed text after the prompt `>`. */
function reciter(text: string): Echo {
  const bytes = new TextEncoder().encode(text);
  return new Echo(256, undefined, (seen) => bytes[seen.length - 1] ?? 0);
}

async function recite(text: string, stop?: string[], maxTokens = 100): Promise<string[]> {
  const pieces: string[] = [];
  const options = { temperature: 0, maxTokens, ...(stop && { stop }) };
  for await (const piece of generateText(reciter(text), '>', options)) pieces.push(piece);
  return pieces;
}

test('characters come whole, and a broken one at the end is replaced', async () => {
  const pieces = await recite('aé€😀', undefined, 10);
  expect(pieces).toEqual(['a', 'é', '€', '😀']);
  expect((await recite('aé€😀', undefined, 8)).join('')).toBe('aé€\ufffd');
});

test('a stop text ends the output, and no part of one is shown', async () => {
  expect((await recite('one two END three', ['END'])).join('')).toBe('one two ');
  expect((await recite('ENEND', ['END'])).join('')).toBe('EN');
  expect((await recite('an EN is no E', ['END'], 13)).join('')).toBe('an EN is no E');
  expect((await recite('abcabd', ['abd', 'zz'])).join('')).toBe('abc');
});
