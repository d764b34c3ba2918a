/** What calls are given. */
import * as longspan from 'longspan';
import {
  History,
  KvCache,
  LshCache,
  normal,
  RoutingCache,
  Transformer,
  TransformerLM,
  zeros,
} from 'longspan';

/** Makes the arguments of a call, anew each time: calls may use them up. */
export type Arguments = () => readonly unknown[];

/** Where a file of that name is, or a new one. */
export type PathOf = (name?: string) => string;

export const m = () => normal([2, 4]);
export const ids = (...shape: number[]) => zeros(shape, { dtype: 'i32' });
export const heads = () => normal([1, 2, 8, 4]);
export const centroids = () => normal([2, 4, 4]);
export const text = Buffer.from('to be, or not to be: that is the question. '.repeat(4));
export const files = () => [
  { name: 'a.txt', bytes: new Uint8Array(text) },
  { name: 'b.txt', bytes: new Uint8Array(text) },
];
export const trained = () => normal([2]).requireGrad();
export const withGradient = () => {
  const w = trained();
  longspan.backward(longspan.sum(w));
  return w;
};
export const lm = () =>
  new TransformerLM({ vocabSize: 256, dModel: 8, layers: 1, heads: 2, maxLength: 16 });
export const seq2seq = () =>
  new Transformer({
    ...{ vocabSize: 8, dModel: 8, heads: 2, encoderLayers: 1, decoderLayers: 1 },
    ...{ feedForward: 8, maxLength: 16 },
  });
export const clusterState = () => ({
  ...{ centroids: centroids(), sums: zeros([2, 4, 4]), counts: zeros([2, 4]) },
  generator: ids(4),
});
export const lshCache = () =>
  new LshCache({ batch: 1, heads: 2, capacity: 16, buckets: 4, rounds: 1, keyDim: 4 });
export const routingCache = () =>
  new RoutingCache({ batch: 1, heads: 2, clusters: 4, window: 4, keyDim: 4 });
export const kvCache = () => {
  const cache = new KvCache({ batch: 1, heads: 2, capacity: 16, headDim: 4 });
  cache.append(heads(), heads());
  return cache;
};
export const recipe = () => ({
  dim: 8,
  layers: 1,
  heads: 2,
  sequence: 8,
  batch: 2,
  steps: 1,
  rate: 1e-3,
});
export const data = () => ({ train: new Uint8Array(text), validation: new Uint8Array(text) });
export const result = () => {
  const history = new History();
  history.add(1, 5);
  return { step: 1, history };
};
export const scores = () => ({
  scorer: ({ tokens }: { tokens: Int32Array }) => new Float32Array(tokens.length * 4),
});
export const layerSizes = () => ({ dModel: 8, heads: 2 });

export const one = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, () => [m()]]));
export const two = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, () => [m(), m()]]));
