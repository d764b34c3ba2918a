/**
 * Documents are a random string and its repetition: the second half can be known, from within the same
 * document alone. Both layouts of a batch hold the same documents.
 */
import {
  AdamW,
  argmax,
  backward,
  clipGradNorm,
  cosineSchedule,
  Generator,
  noGrad,
  Random,
  TransformerLM,
  tensor,
  tidy,
} from 'longspan';

const symbols = 32;
const start = symbols; // begins a document
const vocabSize = symbols + 1;
const ignore = -100;
const [shortest, longestHalf] = [6, 40];
const rowLength = 512;

/** Inputs and targets of one document; only the repetition counts. */
function document(random) {
  const half = shortest + random.below(longestHalf - shortest + 1);
  const text = Array.from({ length: half }, () => random.below(symbols));
  const ids = [start, ...text, ...text];
  return {
    inputs: ids.slice(0, -1),
    targets: ids.slice(1).map((id, i) => (i < half ? ignore : id)),
  };
}

/** One document to a row, padded at the end. */
function padded(documents) {
  const length = Math.max(...documents.map(({ inputs }) => inputs.length));
  const rows = documents.map(({ inputs, targets }) => ({
    ids: [...inputs, ...new Array(length - inputs.length).fill(start)],
    targets: [...targets, ...new Array(length - targets.length).fill(ignore)],
    segments: null,
  }));
  return batchOf(rows, length);
}

/** As many documents to a row as fit. */
function packed(documents) {
  const rows = [];
  for (const { inputs, targets } of documents) {
    let row = rows.find(({ ids }) => ids.length + inputs.length <= rowLength);
    if (!row) {
      row = { ids: [], targets: [], segments: [], count: 0 };
      rows.push(row);
    }
    row.ids.push(...inputs);
    row.targets.push(...targets);
    row.segments.push(...new Array(inputs.length).fill(row.count++));
  }
  for (const row of rows) {
    while (row.ids.length < rowLength) {
      row.ids.push(start);
      row.targets.push(ignore);
      row.segments.push(-1);
    }
  }
  return batchOf(rows, rowLength);
}

function batchOf(rows, length) {
  const make = (list) => tensor(Int32Array.from(list.flat()), { shape: [rows.length, length] });
  return {
    ids: make(rows.map((row) => row.ids)),
    targets: make(rows.map((row) => row.targets)),
    segmentIds: rows[0].segments ? make(rows.map((row) => row.segments)) : null,
    cells: rows.length * length,
  };
}

async function learn(name, layout, { steps, seed }) {
  const model = new TransformerLM({
    ...{ vocabSize, dModel: 64, layers: 2, heads: 4, maxLength: rowLength },
    generator: new Generator(seed),
  });
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, { lr: 4e-3, weightDecay: 0.01 });
  optimizer.setLearningRate(cosineSchedule({ rate: 4e-3, steps, warmup: Math.min(20, steps - 1) }));
  const random = new Random(seed);
  let [cells, tokens] = [0, 0];
  const begin = performance.now();
  for (let step = 0; step < steps; step++) {
    const documents = Array.from({ length: 48 }, () => document(random));
    const batch = layout(documents);
    cells += batch.cells;
    tokens += documents.reduce((sum, { inputs }) => sum + inputs.length, 0);
    const { ids, targets, segmentIds } = batch;
    const loss = model.loss(ids, targets, {
      ignoreIndex: ignore,
      ...(segmentIds && { segmentIds }),
    });
    backward(loss);
    clipGradNorm(parameters, 1).dispose();
    optimizer.step();
    optimizer.zeroGrad();
    loss.dispose();
    for (const t of [ids, targets, segmentIds]) t?.dispose();
  }
  const seconds = (performance.now() - begin) / 1e3;

  const unseen = new Random(seed + 1000);
  let [right, all] = [0, 0];
  for (let i = 0; i < 4; i++) {
    const { ids, targets, segmentIds } = layout(Array.from({ length: 48 }, () => document(unseen)));
    const guesses = tidy(() =>
      noGrad(() => argmax(model.forward(ids, segmentIds ? { segmentIds } : {}), -1).dataSync()),
    );
    targets.dataSync().forEach((target, at) => {
      if (target === ignore) return;
      all++;
      right += Number(guesses[at] === target);
    });
  }
  const share = (100 * tokens) / cells;
  console.log(
    `${name.padEnd(8)} ${share.toFixed(0).padStart(4)} % ${(tokens / seconds / 1e3).toFixed(1).padStart(16)} k ${((100 * right) / all).toFixed(1).padStart(18)} %`,
  );
}

export async function compareLayouts(options) {
  console.log(`a string and its repetition, ${options.steps} steps of 48 documents\n`);
  console.log('layout   tokens/cells  document tokens/s   repetition right');
  await learn('padded', padded, options);
  await learn('packed', packed, options);
}
