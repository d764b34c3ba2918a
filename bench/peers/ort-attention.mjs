/**
 * Times com.microsoft.MultiHeadAttention of onnxruntime-node on the CPU.
 *
 * node ort-attention.mjs --length 2048 [--batch 1] [--heads 8] [--dim 64] [--threads 2] [--causal]
 *
 * Inputs are [batch, length, heads * dim]. Prints "ready", then answers each line of its input with
 * the seconds of one session.run, a fresh output tensor included. Its thread pool spins for a while after
 * a run: whoever times something else wait 400 ms.
 */
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import ort from 'onnxruntime-node';

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '1' },
    heads: { type: 'string', default: '8' },
    dim: { type: 'string', default: '64' },
    length: { type: 'string' },
    threads: { type: 'string', default: '2' },
    causal: { type: 'boolean', default: false },
    values: { type: 'boolean', default: false },
  },
});
const [batch, heads, dim, length, threads] = ['batch', 'heads', 'dim', 'length', 'threads'].map(
  (name) => {
    const n = Number(values[name]);
    if (!Number.isInteger(n) || n < 1)
      throw new Error(`--${name} must be a whole number from 1 on`);
    return n;
  },
);

// Just enough of protobuf to write a model of one node (field numbers of onnx.proto3).
const varint = (n) => {
  const rest = Math.floor(n / 128);
  return rest > 0 ? Buffer.concat([Buffer.of((n % 128) | 128), varint(rest)]) : Buffer.of(n);
};
const integer = (field, n) => Buffer.concat([varint(field * 8), varint(n)]);
const bytes = (field, data) => {
  const content = typeof data === 'string' ? Buffer.from(data) : Buffer.concat(data);
  return Buffer.concat([varint(field * 8 + 2), varint(content.length), content]);
};
const attribute = (name, n) => bytes(5, [bytes(1, name), integer(3, n), integer(20, 2)]);
const value = (field, name) => {
  const shape = [batch, length, heads * dim].map((d) => bytes(1, [integer(1, d)]));
  return bytes(field, [bytes(1, name), bytes(2, [bytes(1, [integer(1, 1), bytes(2, shape)])])]);
};
const node = bytes(1, [
  ...['q', 'k', 'v'].map((name) => bytes(1, name)),
  bytes(2, 'y'),
  bytes(4, 'MultiHeadAttention'),
  attribute('num_heads', heads),
  attribute('unidirectional', values.causal ? 1 : 0),
  bytes(7, 'com.microsoft'),
]);
const graph = [
  node,
  bytes(2, 'attention'),
  ...['q', 'k', 'v'].map((n) => value(11, n)),
  value(12, 'y'),
];
const opset = (domain, version) => bytes(8, [bytes(1, domain), integer(2, version)]);
const model = Buffer.concat([
  integer(1, 8),
  bytes(7, graph),
  opset('', 17),
  opset('com.microsoft', 1),
]);

const session = await ort.InferenceSession.create(model, {
  executionProviders: ['cpu'],
  intraOpNumThreads: threads,
  interOpNumThreads: 1,
  graphOptimizationLevel: 'all',
});
const size = batch * length * heads * dim;
let state = 1;
const uniform = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 31 - 1;
};
const feeds = Object.fromEntries(
  ['q', 'k', 'v'].map((name) => [
    name,
    new ort.Tensor('float32', Float32Array.from({ length: size }, uniform), [
      batch,
      length,
      heads * dim,
    ]),
  ]),
);

if (values.values) {
  // For comparing results: the inputs and the output as raw little-endian floats.
  const { y } = await session.run(feeds);
  for (const t of [feeds.q, feeds.k, feeds.v, y]) process.stdout.write(Buffer.from(t.data.buffer));
} else {
  await session.run(feeds);
  console.log('ready');
  for await (const _ of createInterface({ input: process.stdin })) {
    const start = process.hrtime.bigint();
    await session.run(feeds);
    console.log(Number(process.hrtime.bigint() - start) / 1e9);
  }
}
