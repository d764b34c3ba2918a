import { writeFileSync } from 'node:fs';
import {
  buffer,
  CheckpointError,
  full,
  keep,
  loadModule,
  loadTensors,
  Module,
  ones,
  parameter,
  saveModule,
  saveTensors,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from 'longspan';
import { temporaryDirectory } from '../temporary.js';

class Leaf extends Module {
  weight: Tensor;
  inProjBias: Tensor;
  runningMean = buffer(zeros([2]));
  scratch = buffer(zeros([1]), { persistent: false });
  steps = buffer(tensor([3], { dtype: 'i32' }));
  plain = ones([5]);
  constructor(value: number) {
    super();
    this.weight = parameter(full([2, 3], value));
    this.inProjBias = parameter(full([3], value + 0.5));
  }
  protected override describe(): string {
    return 'in: 2';
  }
}

class Tree extends Module {
  static override readonly stateNames = { feedForward: '', ln1: 'ln_1' };
  readonly selfAttn = new Leaf(1);
  readonly layers = [new Leaf(2), new Leaf(3)];
  readonly feedForward = new Leaf(4);
  readonly ln1 = new Leaf(5);
  tied: Tensor = this.selfAttn.weight;
  readonly nothing: Module | null = null;
}

const values = (t: Tensor) => [...t.dataSync()];

describe('the tree', () => {
  test('names follow the rule, shared tensors come once, scratch and plain tensors stay out', () => {
    const tree = new Tree();
    const leaf = ['weight', 'in_proj_bias', 'running_mean', 'steps'];
    const under = (prefix: string) => leaf.map((name) => prefix + name);
    expect(Object.keys(tree.stateDict())).toEqual([
      ...under('self_attn.'),
      ...under('layers.0.'),
      ...under('layers.1.'),
      ...under(''),
      ...under('ln_1.'),
    ]);
    expect(tree.parameters()).toHaveLength(10);
    expect(tree.parameterCount()).toBe(5 * 9);
    expect([...tree.namedBuffers()].map(([name]) => name)).toContain('layers.1.scratch');
    expect([...tree.namedModules()].map(([name]) => name)).toEqual(
      ['', 'self_attn', 'layers.0', 'layers.1', 'ln_1'].toSpliced(4, 0, ''),
    );
  });

  test('two tensors of one name are refused', () => {
    class Clash extends Module {
      static override readonly stateNames = { b: 'a' };
      a = parameter(ones([1]));
      b = parameter(ones([1]));
    }
    expect(() => new Clash().stateDict()).toThrow(/two tensors named 'a'/);
  });

  test('a child may point back to its parent', () => {
    class Child extends Module {
      parent: Module | null = null;
      w = parameter(ones([1]));
    }
    const child = new Child();
    class Parent extends Module {
      readonly child = child;
    }
    const parent = new Parent();
    child.parent = parent;
    expect(Object.keys(parent.stateDict())).toEqual(['child.w']);
  });

  test('train, eval and apply reach every module', () => {
    const tree = new Tree().eval();
    expect([...tree.modules()].map((m) => m.training)).toEqual(new Array(6).fill(false));
    const order: string[] = [];
    tree.train().apply((m) => order.push(m.constructor.name));
    expect(order.at(-1)).toBe('Tree');
    expect(order).toHaveLength(6);
    expect(tree.training).toBe(true);
  });

  test('toString draws the tree', () => {
    expect(new Tree().toString()).toBe(
      [
        'Tree(',
        '  (self_attn): Leaf(in: 2)',
        '  (layers.0): Leaf(in: 2)',
        '  (layers.1): Leaf(in: 2)',
        '  Leaf(in: 2)',
        '  (ln_1): Leaf(in: 2)',
        ')',
      ].join('\n'),
    );
  });
});

describe('tensors', () => {
  test('parameters survive tidy, and computed tensors are refused', () => {
    const leaf = tidy(() => {
      keep(zeros([1])).dispose();
      return { hidden: () => new Leaf(1) }.hidden();
    });
    expect(values(leaf.weight)).toEqual(new Array(6).fill(1));
    const w = ones([2]).requireGrad();
    expect(() => parameter(w.clone())).toThrow(/leaf/);
    expect(() => parameter(tensor([1], { dtype: 'i32' }))).toThrow(/floating/);
  });

  test('to converts floating tensors, keeps sharing, and disposes the old ones', () => {
    const tree = new Tree();
    const old = tree.selfAttn.weight;
    const frozen = tree.ln1.requireGrad(false);
    tree.to('f64');
    expect(old.isDisposed).toBe(true);
    expect(tree.tied).toBe(tree.selfAttn.weight);
    expect(tree.selfAttn.weight.dtype).toBe('f64');
    expect(tree.selfAttn.weight.requiresGrad).toBe(true);
    expect(frozen.weight.requiresGrad).toBe(false);
    expect(tree.selfAttn.steps.dtype).toBe('i32');
    expect(tree.selfAttn.plain.dtype).toBe('f32');
    expect(tree.parameters()).toHaveLength(10);
    expect(() => tree.to('i32')).toThrow(/floating/);
  });

  test('dispose releases everything', () => {
    const tree = new Tree();
    tree.dispose();
    tree.dispose();
    expect(tree.parameters().every((p) => p.isDisposed)).toBe(true);
  });
});

describe('the state dict', () => {
  test('round trip converts dtypes and copies values', () => {
    const from = new Leaf(7);
    const to = new Leaf(0).to('bf16');
    expect(to.loadStateDict(from.stateDict())).toEqual({ missing: [], unexpected: [] });
    expect(values(to.weight.to('f32'))).toEqual(new Array(6).fill(7));
    from.weight.write(new Float32Array(6));
    expect(values(to.weight.to('f32'))).toEqual(new Array(6).fill(7));
  });

  test('differences are named and leave the model as it was', () => {
    const leaf = new Leaf(1);
    const { weight, ...rest } = new Leaf(2).stateDict();
    const extra = { ...rest, other: weight as Tensor };
    expect(() => leaf.loadStateDict(extra)).toThrow(CheckpointError);
    expect(() => leaf.loadStateDict(extra)).toThrow(/missing 'weight'; unexpected 'other'/);
    const wrong = { ...new Leaf(2).stateDict(), steps: zeros([4]) };
    expect(() => leaf.loadStateDict(wrong)).toThrow(/'steps' has shape \[4\].*\[1\]/);
    expect(values(leaf.inProjBias)).toEqual([1.5, 1.5, 1.5]);
    expect(leaf.loadStateDict(extra, { strict: false })).toEqual({
      missing: ['weight'],
      unexpected: ['other'],
    });
    expect(values(leaf.inProjBias)).toEqual([2.5, 2.5, 2.5]);
  });

  test('a shared tensor loads under any of its names', () => {
    const tree = new Tree();
    const { 'self_attn.weight': weight, ...rest } = new Tree().stateDict();
    tree.loadStateDict({ ...rest, tied: full([2, 3], 9) });
    expect(values(tree.selfAttn.weight)).toEqual(new Array(6).fill(9));
    expect(weight).toBeDefined();
    expect(() => tree.loadStateDict(rest)).toThrow(/missing 'self_attn.weight'/);
  });
});

describe('files', () => {
  const path = temporaryDirectory();

  test('tensors of every dtype and stride come back bit for bit', async () => {
    const all = {
      f32: tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]).transpose(),
      f16: tensor([1.5, -2], { dtype: 'f16' }),
      bf16: tensor([3.25, 1e30], { dtype: 'bf16' }),
      f64: tensor([Math.PI], { dtype: 'f64' }),
      i32: tensor([-7, 2 ** 30], { dtype: 'i32' }),
      u8: tensor(new Uint8Array([1, 0])),
      empty: zeros([0, 4]),
      scalar: tensor(5),
    };
    await saveTensors(path('all.safetensors'), all, { metadata: { a: 'b' } });
    const loaded = await loadTensors(path('all.safetensors'));
    for (const [name, t] of Object.entries(all)) {
      const back = loaded[name] as Tensor;
      expect([name, back.dtype, back.shape]).toEqual([name, t.dtype, t.shape]);
      expect(values(back)).toEqual(values(t));
    }
    const some = await loadTensors(path('all.safetensors'), { names: ['u8'] });
    expect(Object.keys(some)).toEqual(['u8']);
    await expect(loadTensors(path('all.safetensors'), { names: ['u9'] })).rejects.toThrow(/u9/);
  });

  test('64-bit integers narrow when they fit', async () => {
    const header = Buffer.from(
      JSON.stringify({ ids: { dtype: 'I64', shape: [2], data_offsets: [0, 16] } }),
    );
    const file = (last: bigint) => {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(header.length));
      const data = Buffer.from(new BigInt64Array([-3n, last]).buffer);
      writeFileSync(path('i64.safetensors'), Buffer.concat([length, header, data]));
      return loadTensors(path('i64.safetensors'));
    };
    expect(values((await file(9n)).ids as Tensor)).toEqual([-3, 9]);
    await expect(file(2n ** 31n)).rejects.toThrow(/beyond 32 bits/);
  });

  test('a disposed tensor leaves the old file', async () => {
    const t = ones([1]);
    await saveTensors(path('kept.safetensors'), { t });
    t.dispose();
    await expect(saveTensors(path('kept.safetensors'), { t })).rejects.toThrow(/disposed/);
    expect(values((await loadTensors(path('kept.safetensors'))).t as Tensor)).toEqual([1]);
  });

  test('modules save, load, and load under other names', async () => {
    await saveModule(path('tree.safetensors'), new Tree());
    const tree = new Tree();
    for (const p of tree.parameters()) p.write(new Float32Array(p.size));
    await loadModule(path('tree.safetensors'), tree);
    expect(values(tree.layers[1].weight)).toEqual(new Array(6).fill(3));

    const leaf = new Leaf(0);
    await loadModule(path('tree.safetensors'), leaf, {
      rename: (name) => (name.startsWith('ln_1.') ? name.slice(5) : null),
    });
    expect(values(leaf.weight)).toEqual(new Array(6).fill(5));
    await expect(loadModule(path('tree.safetensors'), leaf)).rejects.toThrow(/unexpected/);
    await expect(
      loadModule(path('tree.safetensors'), leaf, { rename: () => 'weight' }),
    ).rejects.toThrow(/are both 'weight'/);
  });
});
