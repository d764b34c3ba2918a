/** Generation with keys and values in pages: the same tokens, and pages that come back. */
import {
  type DType,
  device,
  Generator,
  generate,
  KvPages,
  Reformer,
  randint,
  TransformerLM,
  type TransformerLMOptions,
  tensor,
} from 'longspan';
import { describeCuda, testDevices } from '../support/devices.js';
import { collect } from '../support/generation.js';
import { settledMemory } from '../support/memory.js';

const sizes = { vocabSize: 40, dModel: 16, layers: 2, heads: 2, maxLength: 48 } as const;

const models: TransformerLM[] = [];
afterEach(() => {
  for (const m of models.splice(0)) for (const p of m.parameters()) p.dispose();
});

function model(on: string, options: Partial<TransformerLMOptions> = {}): TransformerLM {
  using generator = new Generator(1, on);
  const made = new TransformerLM({ ...sizes, generator, device: on, ...options });
  models.push(made);
  return made;
}

const kinds: [string, Partial<TransformerLMOptions>][] = [
  ['defaults', {}],
  ['learned positions, layer norm', { position: 'learned', norm: 'layer', activation: 'gelu' }],
  [
    'grouped heads, a window',
    { kvHeads: 1, mechanism: { name: 'softmax', causal: true, window: 5 } },
  ],
  [
    'mixed heads',
    {
      mechanism: {
        name: 'mixed',
        groups: [
          { heads: 1, mechanism: { name: 'softmax', causal: true, window: 4 } },
          { heads: 1, mechanism: { name: 'softmax', causal: true } },
        ],
      },
    },
  ],
  ['reversible layers', { reversible: true }],
];

describe.each(testDevices())('on %s', (name) => {
  const on = device(name);

  test.each(kinds)(
    'the tokens are those of a contiguous cache and of recomputation: %s',
    async (_, o) => {
      const m = model(name, o);
      const options = { seed: 3, maxTokens: 20, temperature: 2 };
      const wanted = await collect(m, { ...options, capture: false });
      expect(new Set(wanted).size).toBeGreaterThan(5);
      expect(await collect(m, { ...options, useCache: false })).toEqual(wanted);
      for (const pageSize of on.type === 'cpu' ? [1, 5, 64] : [3]) {
        using pages = new KvPages({ pages: Math.ceil(22 / pageSize), pageSize });
        for (const capture of [false, true]) {
          expect(await collect(m, { ...options, pages, capture })).toEqual(wanted);
          expect(pages.freePages).toBe(pages.pages);
        }
      }
    },
  );

  test.each<DType>(['bf16', 'f16'])('in %s', async (dtype) => {
    const m = model(name, { dtype });
    using pages = new KvPages({ pages: 8, pageSize: 4 });
    const wanted = await collect(m, { seed: 8, maxTokens: 12 });
    expect(await collect(m, { seed: 8, maxTokens: 12, pages })).toEqual(wanted);
  });

  test('a window that moves gives its pages back and takes others', async () => {
    const m = model(name, { maxLength: 8 });
    const options = { maxTokens: 20, seed: 5, overflow: 'window' } as const;
    using pages = new KvPages({ pages: 4, pageSize: 2 });
    const wanted = await collect(m, { ...options, useCache: false });
    for (const capture of [false, true]) {
      expect(await collect(m, { ...options, pages, capture })).toEqual(wanted);
    }
    expect(pages.freePages).toBe(4);
  });

  test('several texts share the pages, each as it would be alone', async () => {
    const m = model(name).eval();
    using pages = new KvPages({ pages: 24, pageSize: 2 });
    const prompts = [[1, 2, 3], [7], [9, 8, 7, 6]];
    const wanted: number[][] = [];
    for (const prompt of prompts) wanted.push(await collect(m, { seed: 2, maxTokens: 9 }, prompt));
    const texts = prompts.map((prompt) => generate(m, prompt, { seed: 2, maxTokens: 9, pages }));
    const found: number[][] = prompts.map(() => []);
    for (let i = 0; i < 9; i++) {
      for (const [row, text] of texts.entries())
        found[row]?.push((await text.next()).value as number);
      // A token ahead of what has been read, except after the last.
      const lengths = prompts.map((prompt) => prompt.length + Math.min(i + 1, 8));
      const held = lengths.reduce((n, length) => n + Math.ceil(length / 2), 0);
      expect(pages.freePages).toBe(24 - held);
    }
    expect(found).toEqual(wanted);
    for (const text of texts) expect((await text.next()).done).toBe(true);
    expect(pages.freePages).toBe(24);
  });

  test.each([false, true])(
    'when pages run out every token that there was room for comes first, recorded: %p',
    async (capture) => {
      const m = model(name);
      const all = await collect(m, { seed: 4, maxTokens: 20 });
      using pages = new KvPages({ pages: 4, pageSize: 2 });
      const found: number[] = [];
      const run = async () => {
        for await (const token of generate(m, [1, 2, 3], {
          seed: 4,
          maxTokens: 20,
          pages,
          capture,
        }))
          found.push(token);
      };
      await expect(run()).rejects.toMatchObject({
        code: 'ERR_OUT_OF_MEMORY',
        argument: 'pages',
        message: expect.stringMatching(/no page is free for 1 further tokens after 8/),
        remedy: expect.stringMatching(/end another generation.*more pages/),
      });
      expect(found).toEqual(all.slice(0, 6)); // 3 of the prompt and 5 lie in pages, and the 6th was chosen
      expect(pages.freePages).toBe(4);
      // What ends there needs no further page.
      expect(await collect(m, { seed: 4, maxTokens: 6, pages, capture })).toEqual(found);
      const stop = [all[6] as number];
      if (!found.includes(all[6] as number)) {
        using more = new KvPages({ pages: 9, pageSize: 1 });
        expect(await collect(m, { seed: 4, maxTokens: 20, pages: more, capture, stop })).toEqual(
          found,
        );
      }
      await expect(collect(m, { pages, maxTokens: 3 }, new Array(9).fill(1))).rejects.toThrow(
        /9 further tokens/,
      );
      expect(pages.freePages).toBe(4);
      expect(m.training).toBe(true);
    },
  );

  test('a loop that is left and a signal give pages and memory back', async () => {
    const m = model(name);
    using pages = new KvPages({ pages: 30, pageSize: 1 });
    await collect(m, { maxTokens: 4, pages, capture: true });
    const before = (await settledMemory(on)).active;
    for (const capture of [false, true]) {
      let made = 0;
      for await (const _ of generate(m, [1], { maxTokens: 25, pages, capture })) {
        if (++made === 5) break;
      }
      expect(pages.freePages).toBe(30);
      const controller = new AbortController();
      const run = async () => {
        const { signal } = controller;
        for await (const _ of generate(m, [1], { maxTokens: 25, pages, capture, signal }))
          controller.abort();
      };
      await expect(run()).rejects.toMatchObject({ code: 'ERR_ABORTED' });
      expect(pages.freePages).toBe(30);
      await on.synchronize();
      expect(on.memory().active).toBeLessThanOrEqual(before); // or less, when what was dropped before is found late
    }
  });

  test('memory of a state is what its pages hold', () => {
    const m = model(name).eval();
    using pages = new KvPages({ pages: 10, pageSize: 4 });
    const state = m.initState(2, 20, { pages });
    expect(state.byteLength).toBe(0);
    m.step(randint([2, 5], 0, 40, { device: name }), state).dispose();
    expect(pages.freePages).toBe(6);
    // Two pages for each of two sequences, keys and values of 4 tokens in both layers.
    expect(state.byteLength).toBe(2 * 2 * 2 * 2 * (4 * 16 * 4));
    expect(pages.byteLength).toBe(10 * 2 * 2 * (4 * 16 * 4));
    state.reorder(tensor([1, 1], { dtype: 'i32', device: name }));
    expect(pages.freePages).toBe(8);
    m.step(randint([2, 1], 0, 40, { device: name }), state).dispose(); // the shared page is copied
    expect(pages.freePages).toBe(7);
    state.reset();
    expect(pages.freePages).toBe(10);
    state.dispose();
  });

  test('a recording needs its pages beforehand', () => {
    const m = model(name).eval();
    using pages = new KvPages({ pages: 4, pageSize: 2 });
    const state = m.initState(1, 8, { pages });
    const ids = randint([1, 1], 0, 40, { device: name });
    m.step(ids, state).dispose();
    m.step(ids, state).dispose();
    expect(() => on.capture(() => m.step(ids, state))).toThrow(/prepare\(1\)/);
    state.prepare(1);
    expect(() => m.step(randint([1, 2], 0, 40, { device: name }), state)).toThrow(/made for 1/);
    using graph = on.capture(() => m.step(ids, state));
    for (let length = 4; length <= 8; length++) {
      state.replaying(1);
      graph.replay();
      expect(pages.freePages).toBe(4 - Math.ceil(length / 2));
    }
    expect([...state.positions.dataSync()]).toEqual([8]);
    state.dispose();
    expect(pages.freePages).toBe(4);
  });

  test('what has no pages is refused', async () => {
    using pages = new KvPages({ pages: 4 });
    const lsh = new Reformer({ ...sizes, device: name });
    await expect(collect(lsh, { pages, maxTokens: 2 })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      argument: 'pages',
    });
    expect(() => lsh.initState(1, 4, { pages })).toThrow(/cannot lie in pages/);
    const m = model(name);
    await expect(collect(m, { pages, maxTokens: 2, useCache: false })).rejects.toMatchObject({
      code: 'ERR_OPTION',
      argument: 'pages',
    });
    await expect(collect(m, { maxTokens: 2, pages: {} as KvPages })).rejects.toThrow(
      /Pass a KvPages/,
    );
    await collect(m, { pages, maxTokens: 2 });
    await expect(collect(m.to('bf16'), { pages, maxTokens: 2 })).rejects.toThrow(/now in bf16/);
  });
});

test('bad sizes are typed errors', () => {
  expect(() => new KvPages({ pages: 0 })).toThrow(/'pages' is 0/);
  expect(() => new KvPages({ pages: 1, pageSize: 0.5 })).toThrow(/'pageSize' is 0.5/);
  expect(() => new KvPages({ pages: 1, pagesize: 2 } as object as { pages: number })).toThrow(
    /pageSize/,
  );
});

describeCuda('both devices', () => {
  test('pages belong to one of them', async () => {
    using pages = new KvPages({ pages: 8 });
    const m = model('cpu');
    await collect(m, { pages, maxTokens: 2 });
    await expect(collect(m.to('cuda'), { pages, maxTokens: 2 })).rejects.toThrow(/on cuda:0/);
  });
});
