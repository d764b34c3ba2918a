/** Valid calls of modules, optimizers, models and training. */
import * as longspan from 'longspan';
import {
  AdamW,
  BatchSampler,
  BlockMask,
  Generator,
  History,
  Linear,
  openRun,
  SoftmaxAttention,
  type Tensor,
} from 'longspan';
import {
  type Arguments,
  data,
  files,
  ids,
  layerSizes,
  lm,
  m,
  type PathOf,
  recipe,
  result,
  scores,
  seq2seq,
  text,
  trained,
  withGradient,
} from './values.js';

const reformer = { vocabSize: 8, dModel: 8, layers: 1, heads: 2, maxLength: 16, chunk: 4 };

export function systemCalls(path: PathOf): Record<string, Arguments> {
  const checkpoint = () => path('checkpoint.safetensors');
  return {
    // nn
    AxialPositions: () => [[4, 4], 8, { dims: [4, 4], std: 0.02 }],
    Decoder: () => [{ ...layerSizes(), layers: 1, feedForward: 8 }],
    DecoderLayer: () => [{ ...layerSizes(), feedForward: 8, dropout: 0.1 }],
    Dropout: () => [0.5, { generator: new Generator(1) }],
    Embedding: () => [4, 8, { std: 1 }],
    Encoder: () => [
      { ...layerSizes(), layers: 1, finalNorm: true, normFirst: true, recompute: false },
    ],
    EncoderLayer: () => [
      {
        ...layerSizes(),
        activation: 'gelu',
        norm: 'rms',
        eps: 1e-5,
        mechanism: new SoftmaxAttention(),
      },
    ],
    FeedForward: () => [8, 16, { activation: 'relu', bias: true, dropout: 0.1, chunk: 4 }],
    LayerNorm: () => [8, { eps: 1e-5, bias: true }],
    LearnedPositions: () => [16, 8, { std: 0.02 }],
    Linear: () => [4, 2, { bias: true, dtype: 'f32', device: 'cpu', generator: new Generator(1) }],
    loadModule: () => [checkpoint(), new Linear(4, 2), { strict: true, rename: (n: string) => n }],
    LshAttention: () => [
      { buckets: 4, rounds: 1, evalRounds: 1, chunk: 4, causal: true, scale: 1, seed: 1 },
    ],
    mechanismFrom: () => [{ name: 'softmax', causal: true }],
    MixedAttention: () => [
      {
        groups: [
          { heads: 1, mechanism: { name: 'softmax' } },
          { heads: 1, mechanism: { name: 'softmax' } },
        ],
      },
    ],
    MultiHeadAttention: () => [
      { ...layerSizes(), kvHeads: 1, dropout: 0.1, bias: true, mechanism: new SoftmaxAttention() },
    ],
    registerMechanism: () => [`named ${Math.random()}`, () => new SoftmaxAttention()],
    reversible: () => {
      const branch = (x: Tensor) => longspan.tanh(x);
      return [[{ f: branch, g: branch }], m(), m()];
    },
    RMSNorm: () => [8, { eps: 1e-5 }],
    RotaryPositions: () => [4, { base: 10000, interleaved: true }],
    RoutingAttention: () => [{ heads: 2, dim: 4, clusters: 4, window: 4, causal: true }],
    saveModule: () => [path('w'), new Linear(4, 2), { metadata: { a: 'b' } }],
    sinusoidalPositions: () => [4, 8, { base: 10000, layout: 'halves' }, new Float32Array(32)],
    SinusoidalPositions: () => [16, 8, { dtype: 'f32' }],
    SoftmaxAttention: () => [{ causal: true, scale: 1, window: 4 }],
    // optim
    Adam: () => [
      [trained()],
      { lr: 0.1, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, amsgrad: false },
    ],
    AdamW: () => [[trained()], { lr: 0.1, betas: [0.9, 0.999], eps: 1e-8, masterWeights: true }],
    clipGradNorm: () => [[withGradient()], 1, { order: 2 }],
    clipGradValue: () => [[withGradient()], 1],
    constantSchedule: () => [{ rate: 0.1 }],
    cosineSchedule: () => [{ rate: 0.1, steps: 10, warmup: 2, floor: 0 }],
    noamSchedule: () => [{ modelDim: 8, warmup: 2, factor: 1 }],
    SGD: () => [
      [trained()],
      { lr: 0.1, momentum: 0.9, dampening: 0, weightDecay: 0, nesterov: false },
    ],
    warmupSchedule: () => [{ rate: 0.1, warmup: 2 }],
    // models
    gpt2Name: () => ['wte.weight'],
    greedy: () => [seq2seq(), ids(1, 3), { bos: 1, eos: 2, maxSteps: 2, capture: false }],
    loadGpt2: () => [path('gpt2.safetensors'), { heads: 2 }],
    Reformer: () => [{ ...reformer, rounds: 1, pattern: ['lsh'] }],
    ReformerEncoder: () => [{ ...reformer, dropout: 0, reversible: true }],
    RoutingTransformer: () => [
      {
        vocabSize: 8,
        dModel: 8,
        layers: 1,
        heads: 2,
        maxLength: 16,
        clusters: 2,
        window: 4,
        routedHeads: 1,
      },
    ],
    stateScorer: () => {
      const model = seq2seq();
      return [model, model.initState(ids(1, 3), { beams: 2, capacity: 4 })];
    },
    Transformer: () => [
      {
        ...{
          vocabSize: 8,
          dModel: 8,
          heads: 2,
          encoderLayers: 1,
          decoderLayers: 1,
          feedForward: 8,
        },
        ...{
          maxLength: 16,
          dropout: 0.1,
          labelSmoothing: 0.1,
          padId: 0,
          eps: 1e-5,
          normFirst: false,
        },
        ...{
          activation: 'relu',
          norm: 'layer',
          tiedEmbeddings: true,
          recompute: false,
          finalNorm: true,
        },
      },
    ],
    TransformerLM: () => [
      {
        ...{
          vocabSize: 8,
          dModel: 8,
          heads: 2,
          layers: 1,
          kvHeads: 2,
          feedForward: 8,
          maxLength: 16,
        },
        ...{ dropout: 0.1, eps: 1e-5, activation: 'relu', norm: 'layer', position: 'rotary' },
        ...{
          rotaryBase: 10000,
          tiedEmbeddings: true,
          bias: true,
          qkNorm: false,
          reversible: false,
        },
        ...{ mechanism: { name: 'softmax', causal: true } },
      },
    ],
    translate: () => [seq2seq(), ids(1, 3), { bos: 1, eos: 2, maxSteps: 2, beam: 2, alpha: 0.6 }],
    'TransformerLM.fromConfig': () => [{ ...lm().config }, { dtype: 'f32', device: 'cpu' }],
    'Transformer.fromConfig': () => [{ ...seq2seq().config }, { dtype: 'f32', device: 'cpu' }],
    'Generator.default': () => ['cpu'],
    'Random.from': () => [new longspan.Random(1).state()],
    'History.from': () => [new History().state(), 16],
    'BlockMask.local': () => [{ queries: 32, keys: 32, blockSize: 16, left: 1, right: 1 }],
    'BlockMask.strided': () => [{ queries: 32, keys: 32, blockSize: 16, stride: 4 }],
    'BlockMask.fixed': () => [{ queries: 32, keys: 32, blockSize: 16, stride: 4, summary: 1 }],
    'BlockMask.where': () => [
      { queries: 32, keys: 32, blockSize: 16 },
      ({ i, j }: Record<'i' | 'j', longspan.MaskValue>) => j.atMost(i),
    ],
    'BlockMask.perHead': () => [
      [BlockMask.local({ queries: 32, keys: 32, blockSize: 16, left: 1 })],
    ],
    'initialise.constant': () => [m(), 1],
    'initialise.uniform': () => [m(), { low: 0, high: 1, generator: new Generator(1) }],
    'initialise.normal': () => [m(), { mean: 0, std: 1, generator: new Generator(1) }],
    'initialise.truncatedNormal': () => [m(), { mean: 0, std: 1, low: -1, high: 1 }],
    'initialise.xavierUniform': () => [m(), { gain: 1, generator: new Generator(1) }],
    'initialise.xavierNormal': () => [m(), { gain: 1, generator: new Generator(1) }],
    'initialise.kaimingUniform': () => [m(), { gain: 1, fan: 'in' }],
    'initialise.kaimingNormal': () => [m(), { gain: 1, fan: 'out' }],
    // train
    averageCheckpoints: () => [[checkpoint()]],
    BatchSampler: () => [{ data: new Uint8Array(text), batch: 2, length: 8, seed: 1 }],
    beamSearch: () => [
      {
        ...scores(),
        bos: 1,
        eos: 2,
        maxSteps: 2,
        batch: 1,
        beam: 2,
        alpha: 0.6,
        nBest: 1,
        stopEarly: true,
      },
    ],
    ByteVocabulary: () => [['<eos>']],
    concatenate: () => [files()],
    corpusBleu: () => [[['a', 'b']], [[['a', 'b']]], { maxOrder: 2, smoothing: 'none' }],
    evaluateText: () => [lm(), new Uint8Array(text), { batch: 2, length: 8, maxBatches: 1 }],
    evaluationBatches: () => [
      new Uint8Array(text),
      { batch: 2, length: 8, ignoreIndex: -100, maxBatches: 1 },
    ],
    exactMatch: () => [[[1, 2]], [[1, 2]]],
    findCheckpoint: () => [checkpoint()],
    finishRun: () => [openRun(path('run')), lm(), result(), [{ name: 'a', y: 1 }]],
    fitNgram: () => [[new Uint8Array(text)], 2, { heldOut: 0.1, weights: [0.5, 0.5] }],
    generate: () => [
      lm(),
      [10],
      {
        maxTokens: 2,
        seed: 1,
        stop: [1],
        overflow: 'window',
        useCache: true,
        temperature: 1,
        topK: 2,
        topP: 0.5,
      },
    ],
    generateText: () => [lm(), 'a', { maxTokens: 2, seed: 1, stop: ['.'] }],
    History: () => [16],
    loadCheckpoint: () => [checkpoint(), new Linear(4, 2)],
    loadCorpus: () => [path('corpus'), { extensions: ['.txt'], maxBytes: 1e6 }],
    loadLanguageModel: () => [path('lm.safetensors'), 'cpu'],
    loadTextData: () => [path('corpus'), { validation: 0.2, seed: 1, validationBytes: 100 }],
    makeLanguageModel: () => [recipe(), { device: 'cpu', generator: new Generator(1) }],
    ngramBaselines: () => [[new Uint8Array(text)], [new Uint8Array(text)], { heldOut: 0.1 }],
    openRun: () => [path('run')],
    RunDirectory: () => [path('run')],
    readCheckpointInfo: () => [checkpoint()],
    renderCurveSvg: () => [
      {
        series: [{ name: 'a', x: [1, 2], y: [1, 2] }],
        references: [{ name: 'b', y: 1 }],
        title: 't',
        width: 400,
      },
    ],
    saveCheckpoint: () => [path('saved.safetensors'), new Linear(4, 2), { step: 1 }],
    splitCorpus: () => [files(), { validation: 0.5, seed: 1, group: (name: string) => name }],
    textLoss: () => [lm(), new BatchSampler({ data: text, batch: 1, length: 8 }).next()],
    textSource: () => [{ data: new Uint8Array(text), batch: 2, length: 8, seed: 1 }],
    train: () => {
      const model = lm();
      const optimizer = new AdamW(model.namedParameters(), { lr: 1e-3 });
      const source = longspan.textSource({ data: text, batch: 1, length: 8 });
      const loop = { steps: 1, accumulate: 1, clip: 1, tokensPerBatch: 8, keep: 1, timeLimit: 60 };
      return [model, source, { loss: longspan.textLoss, optimizer, ...loop }];
    },
    trainLanguageModel: () => [data(), recipe(), { device: 'cpu', keep: 1 }],
  };
}
