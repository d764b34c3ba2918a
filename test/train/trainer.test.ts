import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import {
  AdamW,
  type BatchSource,
  cosineSchedule,
  Generator,
  Linear,
  Module,
  mean,
  mul,
  openRun,
  Random,
  readCheckpointInfo,
  SGD,
  sub,
  type Tensor,
  type TrainOptions,
  type TrainProgress,
  tensor,
  train,
} from 'longspan';
import { root } from '../root.js';
import { temporaryDirectory } from '../temporary.js';

interface Pairs {
  x: Float32Array;
  y: Float32Array;
  rows: number;
}

/** Points of a plane; `rows` of them in a batch. */
class Plane implements BatchSource<Pairs> {
  private random = new Random(3);
  constructor(readonly rows: number) {}
  next(): Pairs {
    const x = Float32Array.from({ length: this.rows * 2 }, () => this.random.uniform() * 2 - 1);
    const y = Float32Array.from({ length: this.rows }, (_, i) => 3 * x[2 * i] - x[2 * i + 1] + 0.5);
    return { x, y, rows: this.rows };
  }
  state(): unknown {
    return this.random.state();
  }
  restore(state: unknown): void {
    this.random = Random.from(state as ReturnType<Random['state']>);
  }
}

class Fit extends Module {
  readonly linear: Linear;
  constructor(seed = 1) {
    super();
    this.linear = new Linear(2, 1, { generator: new Generator(seed) });
  }
}

function squaredError(model: Fit, { x, y, rows }: Pairs): Tensor {
  const error = sub(
    model.linear.forward(tensor(x, { shape: [rows, 2] })),
    tensor(y, { shape: [rows, 1] }),
  );
  return mean(mul(error, error));
}

const rate = 0.05;
function options(
  model: Fit,
  more: Partial<TrainOptions<Fit, Pairs>> = {},
): TrainOptions<Fit, Pairs> {
  return {
    loss: squaredError,
    steps: 20,
    optimizer: new AdamW(model.namedParameters(), { lr: rate, weightDecay: 0 }),
    ...more,
  };
}

const weights = (model: Module): number[] =>
  model.parameters().flatMap((p) => [...(p.dataSync() as Float32Array)]);

describe('train', () => {
  const at = temporaryDirectory();

  test('the loss falls, every step is reported once and in order', async () => {
    const model = new Fit();
    const seen: TrainProgress[] = [];
    const result = await train(
      model,
      new Plane(32),
      options(model, {
        steps: 150,
        tokensPerBatch: 32,
        schedule: cosineSchedule({ rate, steps: 150, warmup: 5 }),
        onProgress: (progress) => seen.push(progress),
      }),
    );
    expect(result).toMatchObject({ step: 150, ended: 'steps', tokens: 150 * 32 });
    expect(seen.map(({ step }) => step)).toEqual(Array.from({ length: 150 }, (_, i) => i + 1));
    expect(seen[149].loss).toBeLessThan(seen[0].loss / 100);
    expect(seen[0].learningRate).toBeCloseTo(rate / 5, 6);
    expect(seen[40].tokensPerSecond).toBeGreaterThan(0);
    expect(seen[40].timeLeft).toBeGreaterThan(0);
    expect(seen[0].gradientNorm).toBeGreaterThan(0);
    expect(result.history.training.losses).toHaveLength(150);
  });

  test('accumulated batches give the step of one bigger batch', async () => {
    // Not by Adam, whose step does not depend on the size of a gradient.
    const run = async (rows: number, accumulate: number, lossScale: boolean) => {
      const model = new Fit();
      const norms: number[] = [];
      const optimizer = new SGD(model.namedParameters(), { lr: rate });
      const onProgress = ({ gradientNorm }: TrainProgress) => norms.push(gradientNorm);
      const more = { accumulate, lossScale, optimizer, onProgress };
      await train(model, new Plane(rows), options(model, more));
      return { norms, weights: weights(model) };
    };
    const big = await run(32, 1, false);
    for (const scaled of [false, true]) {
      const small = await run(8, 4, scaled);
      for (const [i, w] of small.weights.entries()) expect(w).toBeCloseTo(big.weights[i], 5);
      for (const [i, norm] of small.norms.entries()) expect(norm).toBeCloseTo(big.norms[i], 4);
    }
  });

  test('evaluations come when asked, the best checkpoint is kept', async () => {
    const model = new Fit();
    const results = [3, 1, 2];
    const run = openRun(at('best'));
    const { history } = await train(
      model,
      new Plane(8),
      options(model, {
        run,
        keep: 1,
        steps: 25,
        evaluateEvery: 10,
        evaluate: async () => results.shift() as number,
      }),
    );
    expect(history.evaluations).toEqual([
      { step: 10, loss: 3 },
      { step: 20, loss: 1 },
      { step: 25, loss: 2 },
    ]);
    expect((await readCheckpointInfo(run.bestPath)).step).toBe(20);
    expect(run.checkpoints().map(({ step }) => step)).toEqual([25]);
  });

  test('the time limit ends a run early, complete', async () => {
    const model = new Fit();
    const run = openRun(at('time'));
    const more = { run, steps: 1_000_000, timeLimit: 0.3, evaluate: async () => 1 };
    const result = await train(model, new Plane(8), options(model, more));
    expect(result.ended).toBe('time');
    expect(result.step).toBeGreaterThan(1);
    expect(result.seconds).toBeLessThan(5);
    expect(run.latest()?.step).toBe(result.step);
    expect(result.history.evaluations).toHaveLength(1);
  });

  test('a signal finishes the step, saves, and throws', async () => {
    const model = new Fit();
    const controller = new AbortController();
    const run = openRun(at('abort'));
    const promise = train(
      model,
      new Plane(8),
      options(model, {
        run,
        steps: 1000,
        signal: controller.signal,
        onProgress: ({ step }) => step === 7 && controller.abort(),
      }),
    );
    await expect(promise).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(run.latest()?.step).toBeGreaterThanOrEqual(7);
    expect(run.latest()?.step).toBeLessThanOrEqual(9);
  });

  test('a signal during an evaluation saves too, and the evaluation is made up for', async () => {
    const controller = new AbortController();
    const run = openRun(at('abort-evaluation'));
    const model = new Fit();
    const more = { run, steps: 20, evaluateEvery: 5 };
    const interrupted = train(
      model,
      new Plane(8),
      options(model, {
        ...more,
        signal: controller.signal,
        evaluate: async (signal) => {
          controller.abort();
          signal?.throwIfAborted();
          return 1;
        },
      }),
    );
    await expect(interrupted).rejects.toMatchObject({
      code: 'ERR_ABORTED',
      message: expect.stringMatching(/stopped at step 5\. Resume from .*step-000005/),
    });
    const resume = run.checkpointPath(5);
    const again = new Fit();
    const { history } = await train(
      again,
      new Plane(8),
      options(again, { ...more, resume, evaluate: async () => 1 }),
    );
    expect(history.evaluations.map(({ step }) => step)).toEqual([5, 10, 15, 20]);
  });

  test('a loss that becomes NaN ends the run, and what was saved is whole', async () => {
    const model = new Fit();
    const run = openRun(at('nan'));
    const broken = new Plane(8);
    const next = broken.next.bind(broken);
    let count = 0;
    broken.next = () => {
      const batch = next();
      if (++count === 6) batch.y[0] = Number.NaN;
      return batch;
    };
    await expect(train(model, broken, options(model, { run, saveEvery: 2 }))).rejects.toMatchObject(
      {
        code: 'ERR_OPERATOR_FAILED',
        message: expect.stringMatching(/loss became NaN at step 6; step 4 is saved.*learning rate/),
      },
    );
    const again = new Fit();
    const resumed = await train(
      again,
      new Plane(8),
      options(again, { resume: run.checkpointPath(4) }),
    );
    expect(resumed.step).toBe(20);
    expect(weights(again).every(Number.isFinite)).toBe(true);
  });

  test('refuses to resume from another model, other data, or weights alone', async () => {
    const { saveCheckpoint } = require('longspan') as typeof import('longspan');
    const model = new Fit();
    await saveCheckpoint(at('weights.safetensors'), model, { step: 3 });
    await expect(
      train(model, new Plane(8), options(model, { resume: at('weights.safetensors') })),
    ).rejects.toMatchObject({ code: 'ERR_CHECKPOINT', message: expect.stringMatching(/alone/) });
    class Wider extends Module {
      readonly linear = new Linear(3, 1);
    }
    const wider = new Wider() as unknown as Fit;
    await expect(
      train(wider, new Plane(8), options(wider, { resume: at('weights.safetensors') })),
    ).rejects.toMatchObject({ code: 'ERR_CHECKPOINT' });
  });

  test.each([
    [{ steps: 0 }, 'steps'],
    [{ accumulate: 1.5 }, 'accumulate'],
    [{ timeLimit: 0 }, 'timeLimit'],
    [{ clip: -1 }, 'clip'],
    [{ step: 3 }, 'step'],
  ])('refuses %p', async (more, argument) => {
    const model = new Fit();
    await expect(train(model, new Plane(8), options(model, more as object))).rejects.toMatchObject({
      argument,
      remedy: expect.any(String),
    });
  });
});

/**
 * A language model with dropout, trained to a step in a process of its own; prints a digest of all
 * parameters and the losses.
 */
const script = `
const { createHash } = require('node:crypto');
const longspan = require(${JSON.stringify(root)});
const { AdamW, Generator, TransformerLM, cosineSchedule, openRun, textLoss, textSource, train } = longspan;
const [directory, steps, resume, dtype] = process.argv.slice(1);
(async () => {
  const data = Uint8Array.from({ length: 4000 }, (_, i) => 32 + ((i * i) % 61) + (i % 7));
  const generator = new Generator(9);
  const model = new TransformerLM({
    vocabSize: 256, dModel: 32, layers: 2, heads: 2, maxLength: 32, dropout: 0.1, generator, dtype,
  });
  const run = openRun(directory);
  const result = await train(model, textSource({ data, batch: 2, length: 32, seed: 4 }), {
    loss: textLoss, steps: Number(steps), run, saveEvery: 10, clip: 1, accumulate: 2,
    optimizer: new AdamW(model.namedParameters(), { lr: 3e-3, weightDecay: 0.1 }),
    schedule: cosineSchedule({ rate: 3e-3, steps: 20, warmup: 3 }),
    generators: { model: generator },
    ...(resume === 'yes' && { resume: run.latest().path }),
  });
  const hash = createHash('sha256');
  for (const p of model.parameters()) hash.update(Buffer.from(p.contiguous().dataSync().buffer));
  console.log(JSON.stringify({ digest: hash.digest('hex'), losses: result.history.training.losses }));
})();
`;

describe('resuming', () => {
  const at = temporaryDirectory();
  const run = (...args: string[]): { digest: string; losses: number[] } => {
    const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', script, ...args], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  };

  test.each(['f32', 'bf16'])('20 steps are 10 steps, a new process, and 10 steps: %s', (dtype) => {
    const straight = run(at(`straight-${dtype}`), '20', 'no', dtype);
    const first = run(at(`halves-${dtype}`), '10', 'no', dtype);
    const second = run(at(`halves-${dtype}`), '20', 'yes', dtype);
    expect(second).toEqual(straight);
    expect(second.losses.slice(0, 10)).toEqual(first.losses);
    expect(second.losses[19]).toBeLessThan(second.losses[0]);
    const file = (name: string) => fs.readFileSync(at(`${name}-${dtype}/step-000020.safetensors`));
    expect(file('halves').equals(file('straight'))).toBe(true);
  });
});
