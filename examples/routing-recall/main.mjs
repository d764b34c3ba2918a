/**
 * Associative recall over long sequences: pairs of a key and a value stand at the beginning, and keys alone are
 * asked for in the second half. One layer whose heads are routed by k-means finds the values by content; one
 * whose heads see the tokens just before, at the same cost, cannot:
 *
 *     node examples/routing-recall/main.mjs
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  AdamW,
  add,
  argmax,
  backward,
  clipGradNorm,
  cosineSchedule,
  crossEntropy,
  device as deviceOf,
  Embedding,
  Encoder,
  Generator,
  Linear,
  Module,
  manualSeed,
  noGrad,
  Random,
  RoutingAttention,
  renderCurveSvg,
  reshape,
  SoftmaxAttention,
  tensor,
  tidy,
} from 'longspan';

const { values } = parseArgs({
  options: {
    length: { type: 'string', default: '2048' },
    keys: { type: 'string', default: '256' },
    symbols: { type: 'string', default: '16' },
    clusters: { type: 'string', default: '64' },
    window: { type: 'string', default: '64' },
    steps: { type: 'string', default: '800' },
    batch: { type: 'string', default: '8' },
    rate: { type: 'string', default: '0.006' },
    unseen: { type: 'string', default: '64' },
    seed: { type: 'string', default: '1' },
    device: { type: 'string', default: 'cpu' },
    out: { type: 'string', default: 'runs/routing-recall.svg' },
  },
});

function count(name) {
  const x = Number(values[name]);
  if (Number.isInteger(x) && x >= 1) return x;
  console.error(`--${name} is ${values[name]}: use a whole number from 1 on`);
  process.exit(2);
}
const [length, keys, symbols, clusters, window, steps, batch, unseen, seed] = [
  ...['length', 'keys', 'symbols', 'clusters', 'window', 'steps', 'batch', 'unseen', 'seed'],
].map(count);
const rate = Number(values.rate);
const device = deviceOf(values.device);
const dim = 64;
const heads = 2;
const headDim = dim / heads;
const ignore = -100;
/** The product of a token with a centroid costs half of what a visible key does, which is weighed by its value too. */
const localWindow = window + Math.ceil(clusters / 2);
const asked = Math.floor(length / 2);
if (asked < keys + localWindow) {
  const needed = 2 * (keys + localWindow);
  console.error(
    `--length is ${length}: use ${needed} or more, or local heads see pairs from where keys are asked`,
  );
  process.exit(2);
}

/**
 * Ids of keys, values (`symbols` where a key stands alone), and targets. Each key stands once with its value, in
 * random order, then keys stand alone; those in the second half are asked for.
 */
function draw(random, rows) {
  const [ids, shown, targets] = [0, 1, 2].map(() => new Int32Array(rows * length));
  for (let row = 0; row < rows; row++) {
    const known = Array.from({ length: keys }, () => random.below(symbols));
    const order = Array.from({ length: keys }, (_, key) => key);
    for (let i = keys - 1; i > 0; i--) {
      const other = random.below(i + 1);
      [order[i], order[other]] = [order[other], order[i]];
    }
    for (let i = 0; i < length; i++) {
      const key = i < keys ? order[i] : random.below(keys);
      const at = row * length + i;
      ids[at] = key;
      shown[at] = i < keys ? known[key] : symbols;
      targets[at] = i < asked ? ignore : known[key];
    }
  }
  return [ids, shown, targets].map((data) => tensor(data, { shape: [rows, length], device }));
}

/** A token is the sum of a key's and a value's vector; one layer attends, and the value is read off. */
class Recall extends Module {
  constructor(mechanism) {
    super();
    const made = { device, generator: new Generator(seed, device) };
    this.keys = new Embedding(keys, dim, made);
    this.values = new Embedding(symbols + 1, dim, made);
    this.encoder = new Encoder({
      ...{ ...made, dModel: dim, layers: 1, heads, feedForward: 2 * dim, normFirst: true },
      mechanism: () => mechanism,
    });
    this.output = new Linear(dim, symbols, made);
  }

  forward(ids, shown) {
    const tokens = add(this.keys.forward(ids), this.values.forward(shown));
    return this.output.forward(this.encoder.forward(tokens));
  }

  loss(ids, shown, targets) {
    const logits = reshape(this.forward(ids, shown), [-1, symbols]);
    const loss = crossEntropy(logits, reshape(targets, [-1]));
    const commitment = this.encoder.auxiliaryLoss();
    return commitment ? add(loss, commitment) : loss;
  }
}

/** How many clusters of each head are in use: the exponential of the entropy of their shares of the tokens. */
function inUse({ averageCounts }) {
  const counts = averageCounts.dataSync();
  return Array.from({ length: heads }, (_, head) => {
    const sizes = counts.slice(head * clusters, (head + 1) * clusters);
    const total = sizes.reduce((sum, n) => sum + n, 0);
    const shares = Array.from(sizes, (n) => n / total).filter((share) => share > 0);
    return Math.exp(-shares.reduce((sum, share) => sum + share * Math.log(share), 0));
  });
}

function learn(name, mechanism) {
  const model = new Recall(mechanism);
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, { lr: rate, betas: [0.9, 0.98], weightDecay: 0 });
  const warmup = Math.min(50, steps - 1);
  optimizer.setLearningRate(cosineSchedule({ rate, steps, warmup, floor: rate / 50 }));
  const random = new Random(seed);
  const balance = [];
  const begin = performance.now();
  for (let step = 1; step <= steps; step++) {
    const tensors = draw(random, batch);
    const loss = tidy(() => {
      const value = model.loss(...tensors);
      backward(value);
      return value;
    });
    tidy(() => clipGradNorm(parameters, 1));
    optimizer.step();
    optimizer.zeroGrad();
    if (mechanism.averageCounts && (step === 1 || step % Math.ceil(steps / 40) === 0))
      balance.push({ step, used: inUse(mechanism) });
    if (step % Math.ceil(steps / 4) === 0) {
      const seconds = ((performance.now() - begin) / 1e3).toFixed(0);
      console.log(`  ${name}, step ${step}: loss ${loss.dataSync()[0].toFixed(3)}, ${seconds} s`);
    }
    for (const t of [loss, ...tensors]) t.dispose();
  }
  const seconds = (performance.now() - begin) / 1e3;
  const accuracy = accuracyOf(model.eval());
  model.dispose();
  return { name, accuracy, seconds, balance };
}

/** Share of the keys asked for in unseen sequences whose likeliest value is right. */
function accuracyOf(model) {
  const random = new Random(seed + 1_000_003);
  let [right, all] = [0, 0];
  for (let done = 0; done < unseen; done += batch) {
    const [ids, shown, targets] = draw(random, Math.min(batch, unseen - done));
    const guesses = tidy(() => noGrad(() => argmax(model.forward(ids, shown), -1).dataSync()));
    targets.dataSync().forEach((target, at) => {
      if (target === ignore) return;
      all++;
      right += Number(guesses[at] === target);
    });
    for (const t of [ids, shown, targets]) t.dispose();
  }
  return right / all;
}

manualSeed(seed);
const mechanisms = {
  local: new SoftmaxAttention({ causal: true, window: localWindow - 1 }),
  // Keys are the queries: a key alone and the same key with its value are routed alike.
  routed: new RoutingAttention({
    ...{ heads, dim: headDim, clusters, window, causal: true, sharedKeys: true, decay: 0.99 },
  }),
};
/** Operations of attention and routing for a token, in thousands. */
const operations = Object.values(mechanisms).map((mechanism) => {
  const shape = { batch: 1, heads, keyDim: headDim, valueDim: headDim };
  return mechanism.flops(length, length, shape) / length / 1e3;
});

console.log(`associative recall of ${keys} keys over ${length} tokens, ${steps} steps\n`);
const results = Object.entries(mechanisms).map(([name, mechanism]) => learn(name, mechanism));
console.log('\nheads     recalled    operations per token   training');
results.forEach(({ name, accuracy, seconds }, i) => {
  const share = `${(100 * accuracy).toFixed(1)} %`.padStart(9);
  const cost = `${operations[i].toFixed(1)} k`.padStart(22);
  console.log(`${name.padEnd(8)} ${share} ${cost} ${`${seconds.toFixed(0)} s`.padStart(10)}`);
});
console.log(`chance   ${`${(100 / symbols).toFixed(1)} %`.padStart(9)}`);

const { balance } = results[1];
mkdirSync(path.dirname(values.out), { recursive: true });
writeFileSync(
  values.out,
  renderCurveSvg({
    title: 'Clusters in use while training',
    subtitle: 'exponential of the entropy of their shares of the tokens, moving averages',
    xLabel: 'step',
    yLabel: 'clusters',
    references: [{ name: `all ${clusters} alike`, y: clusters }],
    series: Array.from({ length: heads }, (_, head) => ({
      name: `head ${head + 1}`,
      x: balance.map(({ step }) => step),
      y: balance.map(({ used }) => used[head]),
    })),
  }),
);
console.log(`\nbalance of the clusters: ${values.out}`);
