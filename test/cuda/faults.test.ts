/**
 * What a GPU may do to a program, simulated by the emulated runtime: no memory left, a launch that
 * fails, a device that is lost. Faults are armed by the environment of a process of their own.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../root.js';
import { describeCuda } from '../support/devices.js';

/** What every program may use: `tell(fn)` is an error's name, operator and remedy, or the value. */
const prelude = `
const longspan = require(${JSON.stringify(join(root, 'dist/index.js'))});
const { add, device, generate, matmul, mul, normal, ones, sum, tensor, zeros } = longspan;
const cuda = device('cuda');
const tell = async (fn) => {
  try {
    const value = await fn();
    return ArrayBuffer.isView(value) ? [...value] : value;
  } catch (error) {
    const { name, code, operator, remedy } = error;
    return { name, code, operator, remedy: remedy ? 'given' : 'missing' };
  }
};
`;

/** Runs a program whose last expression gives what is to be compared. */
function run(fault: Record<string, string>, program: string): Record<string, unknown> {
  const script = `${prelude}
(async () => { ${program} })().then(
  (found) => console.log(JSON.stringify(found)),
  (error) => { console.error(error); process.exitCode = 1; },
);`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    env: { ...process.env, ...fault },
  });
  if (status !== 0) throw new Error(`ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

const failure = (name: string, code: string, operator: string) => ({
  name,
  code,
  operator,
  remedy: 'given',
});

describeCuda('out of memory', () => {
  const fault = { LONGSPAN_EMULATED_MEMORY: String(64 << 20) };
  const full = (operator: string) => failure('OutOfMemoryError', 'ERR_OUT_OF_MEMORY', operator);

  test('names the operator, reaches what depends on it, and leaves the rest', () => {
    const found = run(
      fault,
      `
      const x = ones([1024], { device: cuda });
      const large = zeros([1 << 25], { device: cuda });
      const after = add(large, 1);
      const whole = normal([4096, 1024], { device: cuda }); // 16 MiB
      const second = normal([4096, 1024], { device: cuda });
      const workspace = longspan.sort(whole).values; // its result fits, what it works in does not
      return {
        large: await tell(() => large.data()),
        after: await tell(() => after.data()),
        workspace: await tell(() => workspace.data()),
        others: await tell(() => sum(x).data()),
        again: await tell(() => add((workspace.dispose(), second), 1).slice(0, 0, 1).slice(1, 0, 1).data().then((d) => d.length)),
        upload: await tell(() => tensor(new Float32Array(1 << 25), { device: cuda }).data()),
        small: await tell(() => zeros([4], { device: cuda }).data()),
        cpu: await tell(() => sum(ones([1 << 25])).data()),
      };`,
    );
    expect(found).toEqual({
      large: full('full'),
      after: full('full'),
      workspace: full('sort'),
      others: [1024],
      again: 1,
      upload: expect.objectContaining({ name: 'OutOfMemoryError' }),
      small: [0, 0, 0, 0],
      cpu: [1 << 25],
    });
  });

  test('while recording, the recording fails and nothing of it stays', () => {
    const found = run(
      fault,
      `
      const x = ones([1 << 20], { device: cuda });
      await cuda.synchronize();
      const before = cuda.memory().active;
      const much = () => Array.from({ length: 16 }, () => mul(x, 2)).map((y) => sum(y));
      const recorded = await tell(() => cuda.capture(much).result.length);
      await cuda.synchronize();
      return {
        recorded,
        left: cuda.memory().active - before,
        less: await tell(() => cuda.capture(() => sum(mul(x, 2))).result.data()),
      };`,
    );
    expect(found).toEqual({ recorded: full('mul'), left: 0, less: [1 << 21] });
  });
});

describeCuda('a launch that fails', () => {
  const failed = (operator: string) => failure('OperatorError', 'ERR_OPERATOR_FAILED', operator);

  test('poisons its outputs alone', () => {
    // Launches: ones, then four additions.
    const found = run(
      { LONGSPAN_EMULATED_FAIL_LAUNCH: '3' },
      `
      const x = ones([3], { device: cuda });
      const sums = [1, 2, 3, 4].map((n) => add(x, n));
      const after = matmul(sums[1].reshape(1, 3), sums[1].reshape(3, 1));
      const seen = [];
      for (const y of sums) seen.push(await tell(() => y.data()));
      return { seen, after: await tell(() => after.data()), again: await tell(() => add(x, 2).data()) };`,
    );
    expect(found).toEqual({
      seen: [[2, 2, 2], failed('add'), [4, 4, 4], [5, 5, 5]],
      after: failed('add'),
      again: [3, 3, 3],
    });
  });

  test('in a replay, whose next run is whole again', () => {
    // Launches: ones, the recording's first run of two, then replays of two.
    const found = run(
      { LONGSPAN_EMULATED_FAIL_LAUNCH: '5' },
      `
      const x = ones([2], { device: cuda });
      const graph = cuda.capture(() => mul(add(x, 1), 3));
      const seen = [await tell(() => graph.result.data())];
      for (let i = 0; i < 2; i++) seen.push(await tell(() => graph.replay().data()));
      return { seen, x: await tell(() => x.data()) };`,
    );
    expect(found).toEqual({ seen: [[6, 6], failed('replay'), [6, 6]], x: [1, 1] });
  });

  test('ends a generation with the error, and the next one is whole', () => {
    const found = run(
      { LONGSPAN_EMULATED_FAIL_LAUNCH: '500' },
      `
      const model = new longspan.TransformerLM({
        vocabSize: 16, dModel: 8, layers: 1, heads: 1, device: cuda,
        generator: new longspan.Generator(1, cuda),
      });
      const write = async () => {
        const tokens = [];
        for await (const token of generate(model, [1], { maxTokens: 60, seed: 1 })) tokens.push(token);
        return tokens.length;
      };
      return { first: await tell(write), second: await tell(write), training: model.training };`,
    );
    expect(found).toEqual({ first: failed('replay'), second: 60, training: true });
  });
});

describeCuda('a lost device', () => {
  const lost = (operator: unknown) => ({
    ...failure('DeviceLostError', 'ERR_DEVICE_LOST', ''),
    operator,
  });
  const any = expect.any(String);

  test('fails every later use, typed; the CPU and another GPU go on, and the process ends well', () => {
    const found = run(
      { LONGSPAN_EMULATED_LOSE_DEVICE: '4', LONGSPAN_EMULATED_DEVICES: '2' },
      `
      const x = ones([3], { device: cuda });
      const y = add(x, 1);
      const graph = cuda.capture(() => mul(x, 2));
      await cuda.synchronize();
      const z = matmul(x.reshape(1, 3), x.reshape(3, 1)); // the fourth launch
      const found = {
        z: await tell(() => z.data()),
        held: await tell(() => y.data()),
        sync: await tell(() => y.dataSync()),
        made: await tell(() => zeros([2], { device: cuda }).data()),
        again: await tell(() => add(x, 1).data()),
        upload: await tell(() => tensor([1, 2], { device: cuda }).data()),
        download: await tell(() => x.to('cpu').data()),
        replay: await tell(() => graph.replay().data()),
        capture: await tell(() => cuda.capture(() => add(x, 1)).result.data()),
        synchronize: await tell(() => cuda.synchronize()),
        ready: await tell(async () => { await cuda.ready(); await cuda.ready(); }),
        cpu: await tell(() => sum(ones([5])).data()),
        other: await tell(() => sum(ones([7], { device: 'cuda:1' })).data()),
        memory: typeof cuda.memory().active,
      };
      graph.dispose();
      for (const t of [x, y, z]) t.dispose();
      cuda.emptyCache();
      return found;`,
    );
    expect(found).toEqual({
      z: lost('matmul'),
      held: lost(any),
      sync: lost(any),
      made: lost('full'),
      again: lost('add'),
      upload: lost(any),
      download: lost(any),
      replay: lost('replay'),
      capture: lost(any),
      synchronize: lost(any),
      ready: lost(any),
      cpu: [5],
      other: [7],
      memory: 'number',
    });
  });
});
