import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import {
  averageCheckpoints,
  findCheckpoint,
  loadCheckpoint,
  Module,
  openRun,
  parameter,
  readCheckpointInfo,
  saveCheckpoint,
  saveTensors,
  tensor,
  zeros,
} from 'longspan';
import { History } from '#lib/train/history';
import { root } from '../root.js';
import { temporaryDirectory } from '../temporary.js';

class Small extends Module {
  readonly config: { width: number; options: { deep: boolean } };
  readonly weight;
  constructor(width = 3, deep = false) {
    super();
    this.config = { width, options: { deep } };
    this.weight = parameter(zeros([2, width]));
  }
}
class Other extends Module {
  readonly weight = parameter(zeros([2, 3]));
}

describe('checkpoints', () => {
  const at = temporaryDirectory();

  test('weights, description and notes come back', async () => {
    const model = new Small();
    model.weight.write(new Float32Array([1, 2, 3, 4, 5, 6]));
    const momentum = tensor([7, 8]);
    await saveCheckpoint(at('a.safetensors'), model, {
      step: 12,
      optimizer: { 'weight/m': momentum },
      training: { x: [0.1] },
      notes: { file: 'a' },
    });
    const info = await readCheckpointInfo(at('a.safetensors'));
    expect(info).toMatchObject({ step: 12, training: { x: [0.1] }, notes: { file: 'a' } });
    expect(info.model).toEqual({ type: 'Small', config: { width: 3, options: { deep: false } } });
    const again = new Small();
    await loadCheckpoint(at('a.safetensors'), again);
    expect([...again.weight.dataSync()]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('another model is refused with what differs, and keeps its weights', async () => {
    const model = new Small(4, true);
    await expect(loadCheckpoint(at('a.safetensors'), model)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(
        /width is 3 there and 4 here; options.deep is false there and true here/,
      ),
    });
    await expect(loadCheckpoint(at('a.safetensors'), new Other())).rejects.toThrow(
      /holds a Small, this model is a Other/,
    );
    expect([...model.weight.dataSync()]).toEqual(new Array(8).fill(0));
  });

  test('truncated, foreign, newer and missing files are typed errors', async () => {
    const bytes = fs.readFileSync(at('a.safetensors'));
    for (const length of [0, 7, 100, bytes.length - 1]) {
      fs.writeFileSync(at('cut.safetensors'), bytes.subarray(0, length));
      await expect(loadCheckpoint(at('cut.safetensors'), new Small())).rejects.toMatchObject({
        code: 'ERR_FORMAT',
      });
    }
    await saveTensors(at('foreign.safetensors'), { w: zeros([1]) });
    await expect(readCheckpointInfo(at('foreign.safetensors'))).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(/no checkpoint of longspan/),
    });
    const text = bytes.toString('latin1').replace('\\"version\\":1', '\\"version\\":9');
    fs.writeFileSync(at('newer.safetensors'), Buffer.from(text, 'latin1'));
    await expect(readCheckpointInfo(at('newer.safetensors'))).rejects.toThrow(/version 9/);
    await expect(readCheckpointInfo(at('none.safetensors'))).rejects.toMatchObject({
      code: 'ERR_FILE',
    });
  });

  test('averages of checkpoints', async () => {
    const paths = [];
    for (const [i, value] of [1, 2, 6].entries()) {
      const model = new Small();
      model.weight.write(new Float32Array(6).fill(value));
      paths.push(at(`average-${i}.safetensors`));
      await saveCheckpoint(paths[i], model, { step: i, optimizer: { m: zeros([i + 1]) } });
    }
    const mean = await averageCheckpoints(paths);
    expect(Object.keys(mean)).toEqual(['weight']);
    expect([...mean.weight.dataSync()]).toEqual(new Array(6).fill(3));
    await saveCheckpoint(at('wide.safetensors'), new Small(5), { step: 0 });
    await expect(averageCheckpoints([paths[0], at('wide.safetensors')])).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(/\[2, 3\].*\[2, 5\]/),
    });
    await expect(averageCheckpoints([])).rejects.toMatchObject({ code: 'ERR_VALUE' });
  });
});

describe('the directory of a run', () => {
  const at = temporaryDirectory();

  test('keeps the last checkpoints and the best', async () => {
    const run = openRun(at('run'));
    const model = new Small();
    for (const step of [5, 10, 15, 20]) {
      model.weight.write(new Float32Array(6).fill(step));
      await saveCheckpoint(run.checkpointPath(step), model, { step });
      if (step === 10) run.markBest(step);
      run.prune(2);
    }
    expect(run.checkpoints().map(({ step }) => step)).toEqual([15, 20]);
    expect(run.latest()?.step).toBe(20);
    expect((await readCheckpointInfo(run.bestPath)).step).toBe(10);
    expect(findCheckpoint(at('run'))).toBe(run.bestPath);
    expect(findCheckpoint(run.checkpointPath(15))).toBe(run.checkpointPath(15));
  });

  test('nothing there is a typed error', () => {
    expect(() => findCheckpoint(at('nowhere'))).toThrow(
      expect.objectContaining({ code: 'ERR_FILE' }),
    );
    openRun(at('empty'));
    expect(() => findCheckpoint(at('empty'))).toThrow(
      expect.objectContaining({ code: 'ERR_CHECKPOINT' }),
    );
    fs.writeFileSync(at('file'), '');
    expect(() => openRun(at('file/run'))).toThrow(expect.objectContaining({ code: 'ERR_FILE' }));
  });

  test('draws its losses', async () => {
    const run = openRun(at('drawn'));
    const history = new History();
    for (let step = 1; step < 50; step++) history.add(step, 5 / step);
    history.addEvaluation({ step: 49, loss: 0.3 });
    await run.writeCurve(history, { references: [{ name: 'trigram', y: 2.8 }] });
    expect(fs.readFileSync(run.curvePath, 'utf8')).toMatch(/<svg.*training.*trigram/s);
  });

  test('a process killed while it saves loses nothing', async () => {
    const directory = at('killed');
    const script = `
      const { Module, parameter, full, saveCheckpoint, openRun } = require(${JSON.stringify(root)});
      class Small extends Module { weight = parameter(full([1 << 18], 0)); }
      (async () => {
        const run = openRun(${JSON.stringify(directory)});
        const model = new Small();
        let step = (run.latest()?.step ?? 0) + 1;
        for (;; step++) {
          model.weight.write(new Float32Array(1 << 18).fill(step));
          await saveCheckpoint(run.checkpointPath(step), model, { step });
          run.markBest(step);
          run.prune(2);
          process.stdout.write('.');
        }
      })();`;
    class Same extends Module {
      readonly weight = parameter(zeros([1 << 18]));
    }
    Object.defineProperty(Same, 'name', { value: 'Small' });
    let reached = 0;
    for (let round = 0; round < 8; round++) {
      const child = spawn(process.execPath, ['-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const closed = new Promise((resolve) => child.on('close', resolve));
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
      child.kill('SIGKILL');
      await closed;
      const run = openRun(directory); // sweeps what the dead process left
      const latest = run.latest();
      expect(latest?.step).toBeGreaterThan(reached);
      reached = latest?.step ?? 0;
      for (const path of [...run.checkpoints().map((one) => one.path), run.bestPath]) {
        const model = new Same();
        const { step } = await loadCheckpoint(path, model);
        const values = model.weight.dataSync();
        expect(values.every((value) => value === step)).toBe(true);
        model.dispose();
      }
      expect(fs.readdirSync(directory).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    }
  });
});
