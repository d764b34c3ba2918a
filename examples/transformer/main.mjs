/**
 * The encoder-decoder of Vaswani et al. 2017 learns to reverse and to sort, from examples alone:
 *
 *     node examples/transformer/main.mjs --task both
 *
 * Each task trains for at most 2.5 minutes, then 1000 unseen sequences are decoded by beam search.
 */
import { parseArgs } from 'node:util';
import {
  AdamW,
  cosineSchedule,
  exactMatch,
  Generator,
  Transformer,
  train,
  translate,
} from 'longspan';
import { answers, bos, eos, longest, rows, TaskSource, unseen, vocabSize } from './tasks.mjs';

const { values } = parseArgs({
  options: {
    task: { type: 'string', default: 'both' },
    steps: { type: 'string', default: '1200' },
    seconds: { type: 'string', default: '150' },
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '1000' },
  },
});
const tasks = values.task === 'both' ? ['reverse', 'sort'] : [values.task];
if (tasks.some((task) => !(task in answers))) {
  console.error(`--task is ${values.task}: use reverse, sort or both`);
  process.exit(2);
}
const steps = Number(values.steps);
const seed = Number(values.seed);
const batch = 64;
const rate = 2e-3;

function makeModel() {
  return new Transformer({
    vocabSize,
    dModel: 128,
    heads: 4,
    encoderLayers: 2,
    decoderLayers: 2,
    feedForward: 256,
    normFirst: true,
    dropout: 0,
    labelSmoothing: 0.02,
    maxLength: longest + 2,
    generator: new Generator(seed),
  });
}

/** Mean cross entropy of a batch: the decoder sees the answer one symbol late. */
function loss(model, { sources, targets }) {
  return model.loss(
    rows(
      sources.map((ids) => [...ids, eos]),
      longest + 1,
    ),
    rows(
      targets.map((ids) => [bos, ...ids]),
      longest + 1,
    ),
    rows(
      targets.map((ids) => [...ids, eos]),
      longest + 1,
    ),
  );
}

/** Decodes sequences by beam search, a hundred at a time. */
async function decode(model, sources) {
  const found = [];
  for (let i = 0; i < sources.length; i += 100) {
    const some = sources.slice(i, i + 100).map((ids) => [...ids, eos]);
    const options = { bos, eos, beam: 4, maxSteps: longest + 2 };
    const hypotheses = await translate(model, rows(some, longest + 1), options);
    found.push(...hypotheses.map(([best]) => best.tokens.filter((id) => id !== eos)));
  }
  return found;
}

async function run(task) {
  const model = makeModel();
  console.log(`${task}: ${model.parameterCount()} parameters, at most ${values.seconds} s`);
  let shown = 0;
  const result = await train(model, new TaskSource(task, { batch, seed }), {
    loss,
    steps,
    timeLimit: Number(values.seconds),
    optimizer: new AdamW(model.namedParameters(), {
      lr: rate,
      betas: [0.9, 0.98],
      weightDecay: 0.01,
    }),
    schedule: cosineSchedule({ rate, steps, warmup: 100, floor: rate / 50 }),
    clip: 1,
    onProgress({ step, loss: nats, elapsed }) {
      if (elapsed - shown < 10 && step < steps) return;
      shown = elapsed;
      console.log(`  step ${step}  loss ${nats.toFixed(4)}  ${elapsed.toFixed(0)} s`);
    },
  });
  model.eval();
  const sources = unseen(Number(values.count), seed + 1_000_003);
  const start = performance.now();
  const found = await decode(model, sources);
  const share = exactMatch(found, sources.map(answers[task]));
  const decoding = (performance.now() - start) / 1000;
  console.log(
    `${task}: ${(100 * share).toFixed(1)} % of ${sources.length} unseen sequences exact; ` +
      `${result.step} steps in ${result.seconds.toFixed(0)} s, decoded in ${decoding.toFixed(0)} s`,
  );
  model.dispose();
}

for (const task of tasks) await run(task);
