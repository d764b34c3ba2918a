import {
  Generator,
  loadLanguageModel,
  noGrad,
  Reformer,
  ReformerEncoder,
  type ReformerOptions,
  randint,
  reformerPresets,
  saveCheckpoint,
  type Tensor,
  tensor,
  tidy,
} from 'longspan';
import { expectClose, values } from '../support/compare.js';
import { temporaryDirectory } from '../temporary.js';

const small = {
  ...{ vocabSize: 17, dModel: 24, layers: 2, heads: 2, maxLength: 48 },
  ...{ chunk: 4, rounds: 2, buckets: 6 },
} as const;
const model = (options: Partial<ReformerOptions> = {}) =>
  new Reformer({ ...small, generator: new Generator(1), ...options });
const tokens = (batch: number, length: number, seed = 2) =>
  randint([batch, length], 0, small.vocabSize, { generator: new Generator(seed) });
const gradientsOf = (m: Reformer) => m.parameters().map((p) => values(p.grad as Tensor));

describe('Reformer', () => {
  test('later tokens change nothing before them, bit for bit', () => {
    const m = model({ pattern: ['lsh', 'local'] }).eval();
    const ids = tokens(2, 31);
    const changed = [...values(ids)].map((id, i) => (i % 31 === 17 ? (id + 1) % 17 : id));
    const other = tensor(Int32Array.from(changed), { shape: [2, 31] });
    const [a, b] = noGrad(() => [m.forward(ids), m.forward(other)]) as [Tensor, Tensor];
    expect(values(a.slice(1, 0, 17))).toEqual(values(b.slice(1, 0, 17)));
    expect(values(a.slice(1, 17, 31))).not.toEqual(values(b.slice(1, 17, 31)));
  });

  test('decoding equals the whole', () => {
    const m = model({ pattern: ['lsh', 'local'], dtype: 'f64' }).eval();
    const ids = tokens(2, 21);
    const whole = noGrad(() => m.forward(ids));
    const state = m.initState(2, 21);
    for (let start = 0; start < 21; ) {
      const end = start === 0 ? 5 : start + 1;
      const logits = tidy(() => m.step(ids.slice(1, start, end), state));
      expectClose(logits, values(whole.slice(1, start, end)), { absolute: 1e-12 });
      start = end;
    }
    state.dispose();
  });

  test('gradients are those of the same seed, run after run, dropout and rotations replayed', () => {
    const [ids, targets] = [tokens(2, 29, 3), tokens(2, 29, 4)];
    const run = (chunked: boolean) => {
      const m = model({ dropout: 0.2, dtype: 'f64' });
      tidy(() => m.loss(ids, targets, chunked ? { chunk: 16 } : {}).backward());
      return gradientsOf(m);
    };
    const once = run(false);
    expect(run(false)).toEqual(once);
    run(true).forEach((g, i) => {
      expectClose(g, once[i] as Float64Array, { absolute: 1e-12 });
    });
  });

  test('a configuration is JSON, and checkpoints load by it', async () => {
    const path = temporaryDirectoryOf();
    const m = model({ pattern: ['local', 'lsh'], evalRounds: 3 }).eval();
    expect(m.config.mechanism).toHaveLength(2);
    const copy = Reformer.fromConfig(JSON.parse(JSON.stringify(m.config)));
    expect(copy.config).toEqual(m.config);
    await saveCheckpoint(path, m, { step: 3 });
    const { model: loaded } = await loadLanguageModel(path);
    expect(loaded).toBeInstanceOf(Reformer);
    const ids = tokens(1, 20);
    expect(values(noGrad(() => loaded.eval().forward(ids)))).toEqual(
      values(noGrad(() => m.forward(ids))),
    );
  });

  const directory = temporaryDirectory();
  const temporaryDirectoryOf = () => directory('reformer.safetensors');

  test('presets have the published sizes', () => {
    const { layers, chunk, rounds, pattern } = reformerPresets.enwik8;
    expect({ layers, chunk, rounds }).toEqual({ layers: 12, chunk: 256, rounds: 2 });
    expect(pattern).toEqual(['local', 'local', 'lsh', 'local']);
    for (const { axial, maxLength } of [reformerPresets.enwik8, reformerPresets.imagenet64])
      expect(axial.shape.reduce<number>((n, side) => n * side, 1)).toBe(maxLength);
    const m = new Reformer({ ...reformerPresets.duplication, layers: 1 });
    expect(m.config).toMatchObject({ reversible: true, position: 'axial', maxLength: 1024 });
    m.dispose();
  });

  test('bad options are typed errors', () => {
    expect(() => model({ pattern: [] })).toThrow(/'pattern'/);
    expect(() => model({ pattern: ['hash' as 'lsh'] })).toThrow(/hash.*'lsh'/);
    expect(() => model({ rounds: 0 })).toThrow(/'rounds' is 0/);
    expect(() => model({ buckets: 5 })).toThrow(/'buckets' is 5.*even/);
    const mechanism = { name: 'softmax', causal: true };
    expect(() => model({ mechanism })).toThrow(/'chunk'.*mechanism/);
  });
});

describe('ReformerEncoder', () => {
  test('sees both sides, and no padding', () => {
    const m = new ReformerEncoder({ ...small, generator: new Generator(1) }).eval();
    const ids = tokens(1, 20);
    const y = noGrad(() => m.forward(ids));
    expect(y.shape).toEqual([1, 20, 24]);
    const changed = values(ids);
    changed[15] = ((changed[15] as number) + 1) % 17;
    const other = tensor(Int32Array.from(changed), { shape: [1, 20] });
    const lengths = tensor([15], { dtype: 'i32' });
    const of = (x: Tensor, padded: boolean) =>
      values(noGrad(() => m.forward(x, padded ? { lengths } : {})).slice(1, 0, 15));
    expect(of(other, true)).toEqual(of(ids, true));
    expect(of(other, false)).not.toEqual(of(ids, false));
  });
});
