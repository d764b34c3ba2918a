/** A valid call of every export of the package, to be spoilt one argument at a time. */
import * as longspan from 'longspan';
import {
  AdamW,
  BatchSampler,
  BlockMask,
  ByteVocabulary,
  Encoder,
  fitNgram,
  Generator,
  History,
  Linear,
  LshAttention,
  openRun,
  PagedKvCache,
  RoutingAttention,
  readSafetensorsFileSync,
  SafetensorsWriter,
  SoftmaxAttention,
} from 'longspan';
import { operatorCalls } from './operators.js';
import { systemCalls } from './systems.js';
import {
  type Arguments,
  kvCache,
  lm,
  lshCache,
  m,
  type PathOf,
  routingCache,
  seq2seq,
  text,
  trained,
} from './values.js';

export { exempt, internal, takes } from './accepted.js';

/** Arguments of every function, and of every class that is made with `new`. */
export function validCalls(path: PathOf): Record<string, Arguments> {
  return { ...operatorCalls(path), ...systemCalls(path) };
}

/** Objects whose methods are called with junk. */
export function instances(path: PathOf): Record<string, () => object> {
  return {
    AdamW: () => new AdamW([trained()]),
    BatchSampler: () => new BatchSampler({ data: text, batch: 2, length: 8 }),
    BlockMask: () => BlockMask.local({ queries: 32, keys: 32, blockSize: 16, left: 1 }),
    ByteVocabulary: () => new ByteVocabulary(),
    DecodingState: () => lm().initState(1, 8),
    Device: () => longspan.device('cpu'),
    Encoder: () => new Encoder({ dModel: 8, heads: 2, layers: 1 }),
    Generator: () => new Generator(1),
    History: () => new History(),
    KvCache: kvCache,
    Linear: () => new Linear(4, 2),
    LshAttention: () => new LshAttention({ buckets: 4, causal: true }),
    LshCache: lshCache,
    MultiHeadAttention: () => new longspan.MultiHeadAttention({ dModel: 8, heads: 2 }),
    NgramModel: () => fitNgram(text, 2),
    PagedKvCache: () =>
      new PagedKvCache({ batch: 1, heads: 2, pages: 4, pageSize: 16, headDim: 4 }),
    Random: () => new longspan.Random(1),
    RoutingAttention: () => new RoutingAttention({ heads: 2, dim: 4, clusters: 4, causal: true }),
    RoutingCache: routingCache,
    RunDirectory: () => openRun(path('run')),
    SafetensorsFile: () => readSafetensorsFileSync(path('checkpoint.safetensors')),
    SafetensorsWriter: () =>
      new SafetensorsWriter(path('w'), [{ name: 'w', dtype: 'F32', shape: [2] }]),
    SoftmaxAttention: () => new SoftmaxAttention({ causal: true }),
    Tensor: () => m(),
    Transformer: seq2seq,
    TransformerLM: lm,
  };
}
