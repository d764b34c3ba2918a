/**
 * The duplication task of Kitaev, Kaiser and Levskaya 2020: a sequence is 0 w 0 w, and the second w can be known
 * from the first alone. Reformers of one layer, trained with 1, 2 and 4 rounds of hashing, are evaluated
 * with 1 to 8 rounds:
 *
 *     node examples/reformer-duplication/main.mjs
 *
 * The paper's size is --length 1024 --dim 256 --steps 150000.
 */
import { parseArgs } from 'node:util';
import {
  AdamW,
  argmax,
  backward,
  clipGradNorm,
  cosineSchedule,
  device as deviceOf,
  Generator,
  noGrad,
  Random,
  Reformer,
  tensor,
  tidy,
} from 'longspan';

const { values } = parseArgs({
  options: {
    length: { type: 'string', default: '128' },
    symbols: { type: 'string', default: '127' },
    dim: { type: 'string', default: '128' },
    heads: { type: 'string', default: '4' },
    chunk: { type: 'string', default: '8' },
    buckets: { type: 'string', default: '32' },
    batch: { type: 'string', default: '16' },
    steps: { type: 'string', default: '500' },
    rate: { type: 'string', default: '0.003' },
    rounds: { type: 'string', default: '1,2,4' },
    evaluated: { type: 'string', default: '1,2,4,8' },
    seed: { type: 'string', default: '1' },
    device: { type: 'string', default: 'cpu' },
  },
});

/** Whole numbers of an option, separated by commas. */
function counts(name) {
  const list = values[name].split(',').map(Number);
  if (list.every((x) => Number.isInteger(x) && x >= 1)) return list;
  console.error(`--${name} is ${values[name]}: use whole numbers from 1 on`);
  process.exit(2);
}
const [length, symbols, dim, heads, chunk, buckets, batch, steps, seed] = [
  ...['length', 'symbols', 'dim', 'heads', 'chunk', 'buckets', 'batch', 'steps', 'seed'],
].map((name) => counts(name)[0]);
const trained = counts('rounds');
const evaluated = counts('evaluated');
const rate = Number(values.rate);
const device = deviceOf(values.device);
const ignore = -100;

/** Sequences 0 w 0 w, and as targets what follows in the second half. */
function draw(random, rows) {
  const half = Math.floor(length / 2);
  const ids = new Int32Array(rows * 2 * half);
  const targets = new Int32Array(ids.length).fill(ignore);
  for (let row = 0; row < rows; row++) {
    const start = row * 2 * half;
    for (let i = 1; i < half; i++) {
      const symbol = 1 + random.below(symbols);
      ids[start + i] = symbol;
      ids[start + half + i] = symbol;
      targets[start + half + i - 1] = symbol;
    }
  }
  const shape = [rows, 2 * half];
  return [ids, targets].map((data) => tensor(data, { shape, device }));
}

function makeModel(rounds) {
  return new Reformer({
    ...{
      vocabSize: symbols + 1,
      dModel: dim,
      feedForward: dim,
      layers: 1,
      heads,
      maxLength: length,
    },
    ...{ position: 'learned', chunk, buckets, rounds, device },
    generator: new Generator(seed, device),
  });
}

function learn(rounds) {
  const model = makeModel(rounds);
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, { lr: rate, betas: [0.9, 0.98], weightDecay: 0 });
  const warmup = Math.min(50, steps - 1);
  optimizer.setLearningRate(cosineSchedule({ rate, steps, warmup, floor: rate / 50 }));
  const random = new Random(seed);
  const begin = performance.now();
  for (let step = 1; step <= steps; step++) {
    const [ids, targets] = draw(random, batch);
    const loss = tidy(() => {
      const value = model.loss(ids, targets);
      backward(value);
      return value;
    });
    tidy(() => clipGradNorm(parameters, 1));
    optimizer.step();
    optimizer.zeroGrad();
    if (step % Math.ceil(steps / 5) === 0) {
      const seconds = ((performance.now() - begin) / 1e3).toFixed(0);
      const nats = loss.dataSync()[0].toFixed(3);
      console.log(`  ${rounds} rounds, step ${step}: loss ${nats}, ${seconds} s`);
    }
    for (const t of [loss, ids, targets]) t.dispose();
  }
  return model;
}

/** Share of the symbols of unseen second halves that are likeliest where they stand. */
function accuracy(model, rounds) {
  const other = makeModel(rounds).eval(); // the same weights, hashed more or less often
  other.loadStateDict(model.stateDict());
  const random = new Random(seed + 1_000_003);
  let [right, all] = [0, 0];
  for (let i = 0; i < 8; i++) {
    const [ids, targets] = draw(random, 32);
    const guesses = tidy(() => noGrad(() => argmax(other.forward(ids), -1).dataSync()));
    targets.dataSync().forEach((target, at) => {
      if (target === ignore) return;
      all++;
      right += Number(guesses[at] === target);
    });
    for (const t of [ids, targets]) t.dispose();
  }
  other.dispose();
  return right / all;
}

console.log(
  `duplication, length ${length}, ${buckets} buckets, chunks of ${chunk}, ${steps} steps\n`,
);
const table = trained.map((rounds) => {
  const model = learn(rounds);
  const row = evaluated.map((more) => accuracy(model, more));
  model.dispose();
  return { rounds, row };
});
const cell = (text) => String(text).padStart(10);
console.log(`\ntrained with  ${evaluated.map((n) => cell(`eval ${n}`)).join('')}`);
for (const { rounds, row } of table) {
  const shares = row.map((share) => cell(`${(100 * share).toFixed(1)} %`)).join('');
  console.log(`${String(rounds).padStart(6)} rounds ${shares}`);
}
