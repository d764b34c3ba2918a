/** A valid call of every export of the package, to be spoilt one argument at a time. */
import * as longspan from 'longspan';
import {
  AdamW,
  BatchSampler,
  BlockMask,
  ByteVocabulary,
  bucketSort,
  Encoder,
  fitNgram,
  Generator,
  History,
  KvCache,
  Linear,
  LshAttention,
  LshCache,
  lshRotations,
  normal,
  openRun,
  PagedKvCache,
  RoutingAttention,
  RoutingCache,
  readSafetensorsFileSync,
  SafetensorsWriter,
  SoftmaxAttention,
  type Tensor,
  Transformer,
  TransformerLM,
  zeros,
} from 'longspan';

/** Makes the arguments of a call, anew each time: calls may use them up. */
export type Arguments = () => readonly unknown[];

const m = () => normal([2, 4]);
const ids = (...shape: number[]) => zeros(shape, { dtype: 'i32' });
const heads = () => normal([1, 2, 8, 4]);
const centroids = () => normal([2, 4, 4]);
const text = Buffer.from('to be, or not to be: that is the question. '.repeat(4));
const files = () => [
  { name: 'a.txt', bytes: new Uint8Array(text) },
  { name: 'b.txt', bytes: new Uint8Array(text) },
];
const trained = () => normal([2]).requireGrad();
const withGradient = () => {
  const w = trained();
  longspan.backward(longspan.sum(w));
  return w;
};
const lm = () =>
  new TransformerLM({ vocabSize: 256, dModel: 8, layers: 1, heads: 2, maxLength: 16 });
const seq2seq = () =>
  new Transformer({
    ...{ vocabSize: 8, dModel: 8, heads: 2, encoderLayers: 1, decoderLayers: 1 },
    ...{ feedForward: 8, maxLength: 16 },
  });
const clusterState = () => ({
  ...{ centroids: centroids(), sums: zeros([2, 4, 4]), counts: zeros([2, 4]) },
  generator: ids(4),
});
const lshCache = () =>
  new LshCache({ batch: 1, heads: 2, capacity: 16, buckets: 4, rounds: 1, keyDim: 4 });
const routingCache = () =>
  new RoutingCache({ batch: 1, heads: 2, clusters: 4, window: 4, keyDim: 4 });
const kvCache = () => {
  const cache = new KvCache({ batch: 1, heads: 2, capacity: 16, headDim: 4 });
  cache.append(heads(), heads());
  return cache;
};
const recipe = () => ({ dim: 8, layers: 1, heads: 2, sequence: 8, batch: 2, steps: 1, rate: 1e-3 });
const data = () => ({ train: new Uint8Array(text), validation: new Uint8Array(text) });
const result = () => {
  const history = new History();
  history.add(1, 5);
  return { step: 1, history };
};
const scores = () => ({
  scorer: ({ tokens }: { tokens: Int32Array }) => new Float32Array(tokens.length * 4),
});
const layerSizes = () => ({ dModel: 8, heads: 2 });

const one = (...names: string[]) => Object.fromEntries(names.map((name) => [name, () => [m()]]));
const two = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, () => [m(), m()]]));

/** Arguments of every function, and of every class that is made with `new`. */
export function validCalls(path: (name?: string) => string): Record<string, Arguments> {
  const checkpoint = () => path('checkpoint.safetensors');
  return {
    // core
    ...one('keep', 'releaseGraph'),
    arange: () => [0, 4, 1, { dtype: 'f32' }],
    backward: () => [longspan.sum(trained()), { retainGraph: true }],
    buffer: () => [m(), { persistent: true, keepDtype: false }],
    cast: () => [m(), 'f16'],
    checkpoint: () => [(x: Tensor) => longspan.exp(x), [m()]],
    decideOnce: () => [() => [m()]],
    defineOperator: () => [
      { name: 'own', forward: (_: unknown, x: Tensor) => longspan.neg(x), backward: () => [null] },
    ],
    device: () => ['cpu'],
    full: () => [[2], 1, { dtype: 'f32', device: 'cpu' }],
    gradients: () => {
      const w = trained();
      return [[longspan.sum(w)], [w], { retainGraph: true }];
    },
    manualSeed: () => [1, 'cpu'],
    noGrad: () => [() => 1],
    ones: () => [[2], { dtype: 'f32' }],
    parameter: () => [m(), { requiresGrad: true }],
    permute: () => [m(), [1, 0]],
    releaseGraph: () => [[longspan.sum(trained())]],
    reshape: () => [m(), [4, 2]],
    setNumThreads: () => [2],
    slice: () => [m(), 0, 0, 1],
    split: () => [m(), 2, 0],
    squeeze: () => [normal([1, 2]), 0],
    tensor: () => [[1, 2], { shape: [2], dtype: 'f32', device: 'cpu' }],
    tidy: () => [() => 1],
    transpose: () => [m(), 0, 1],
    unsqueeze: () => [m(), 0],
    vjp: () => [(x: Tensor) => longspan.exp(x), [m()]],
    zeros: () => [[2], { dtype: 'f32' }],
    Generator: () => [1, 'cpu'],
    Random: () => [1],
    hashText: () => ['a text', 1],
    bf16ToF32: () => [new Uint16Array(2), new Float32Array(2)],
    f16ToF32: () => [new Uint16Array(2), new Float32Array(2)],
    f32ToBf16: () => [new Float32Array(2), new Uint16Array(2)],
    f32ToF16: () => [new Float32Array(2), new Uint16Array(2)],
    float16View: () => [new Uint16Array(2)],
    // files
    bitsPerElement: () => ['F32'],
    isSafetensorsDtype: () => ['F32'],
    loadTensors: () => [checkpoint(), { device: 'cpu', names: ['weight'] }],
    openAtomicFile: () => [path('atomic')],
    parseHeader: () => [new TextEncoder().encode('{}'), 0, 'source'],
    readSafetensorsFile: () => [checkpoint()],
    readSafetensorsFileSync: () => [checkpoint()],
    SafetensorsWriter: () => [path('w'), [{ name: 'w', dtype: 'F32', shape: [2] }], { a: 'b' }],
    saveTensors: () => [path('w'), { w: m() }, { metadata: { a: 'b' } }],
    writeFileAtomic: () => [path('text'), 'text'],
    writeFileAtomicSync: () => [path('text'), 'text'],
    writeSafetensorsFile: () => [
      path('w'),
      [{ name: 'w', dtype: 'F32', shape: [2], data: new Float32Array(2) }],
      { metadata: { a: 'b' } },
    ],
    writeSafetensorsFileSync: () => [
      path('w'),
      [{ name: 'w', dtype: 'F32', shape: [2], data: new Float32Array(2) }],
      { metadata: { a: 'b' } },
    ],
    // dense
    ...one('abs', 'cos', 'erf', 'exp', 'floor', 'log', 'logicalNot', 'neg', 'reciprocal', 'relu'),
    ...one('reluSquared', 'round', 'rsqrt', 'sigmoid', 'sign', 'silu', 'sin', 'softplus', 'sqrt'),
    ...one('square', 'tanh'),
    ...two('add', 'div', 'equal', 'geglu', 'gegluTanh', 'glu', 'greater', 'greaterEqual', 'less'),
    ...two('lessEqual', 'logicalAnd', 'logicalOr', 'maximum', 'minimum', 'mul', 'notEqual', 'pow'),
    ...two('reglu', 'sub', 'swiglu'),
    argmax: () => [m(), 0, { keepDims: true }],
    argmin: () => [m(), 0, { keepDims: true }],
    bernoulli: () => [[2], { p: 0.5, generator: new Generator(1) }],
    categorical: () => [m(), { temperature: 1, generator: new Generator(1) }],
    clipCoefficient: () => [normal([1]), 1],
    concat: () => [[m(), m()], 0],
    crossEntropy: () => [m(), ids(2), { labelSmoothing: 0.1, ignoreIndex: -1 }],
    cumsum: () => [m(), 0, { reverse: true }],
    dropout: () => [m(), { p: 0.5, generator: new Generator(1) }],
    embedding: () => [m(), ids(2), { paddingIndex: 0 }],
    expand: () => [normal([1, 4]), [2, 4]],
    flip: () => [m(), 0],
    gather: () => [m(), 0, ids(1, 4)],
    gelu: () => [m(), { approximate: 'tanh' }],
    gradNorm: () => [[m()], { order: 2 }],
    indexSelect: () => [m(), 0, ids(1)],
    layerNorm: () => [m(), normal([4]), normal([4]), { eps: 1e-5 }],
    linear: () => [m(), m(), normal([2]), { activation: 'relu' }],
    logSoftmax: () => [m(), 0],
    matmul: () => [m(), normal([4, 2]), { allowTf32: false }],
    max: () => [m(), 0, { keepDims: true }],
    mean: () => [m(), 0, { keepDims: true }],
    min: () => [m(), 0, { keepDims: true }],
    normal: () => [[2], { mean: 0, std: 1, generator: new Generator(1) }],
    oneHot: () => [ids(2), 4, { dtype: 'f32' }],
    permutation: () => [4, { generator: new Generator(1) }],
    randint: () => [[2], 0, 4, { generator: new Generator(1) }],
    repeat: () => [m(), 2, 0],
    rmsNorm: () => [m(), normal([4]), { eps: 1e-5 }],
    rotary: () => [heads(), { base: 10000, interleaved: true }],
    scatterAdd: () => [m(), 0, ids(1, 4), normal([1, 4])],
    softmax: () => [m(), 0],
    sort: () => [m(), { axis: 0, descending: true }],
    stack: () => [[m(), m()], 0],
    sum: () => [m(), 0, { keepDims: true }],
    tile: () => [m(), [2, 1]],
    topK: () => [m(), 2, { axis: 0, largest: true }],
    tril: () => [m(), 0],
    triu: () => [m(), 0],
    uniform: () => [[2], { low: 0, high: 1, generator: new Generator(1) }],
    variance: () => [m(), 0, { correction: 1 }],
    where: () => [zeros([2, 4], { dtype: 'u8' }), m(), m()],
    // attention
    alibiSlopes: () => [2, { dtype: 'f32', device: 'cpu' }],
    attention: () => [heads(), heads(), heads(), { causal: true, scale: 1 }],
    attentionDecode: () => [normal([1, 2, 1, 4]), kvCache(), { scale: 1 }],
    attentionDecodeShared: () => [normal([1, 2, 1, 4]), kvCache(), kvCache(), { scale: 1 }],
    'attention.supported': () => [{ dtype: 'f32', headDim: 4, queryHeads: 2, uses: ['causal'] }],
    KvCache: () => [{ batch: 1, heads: 2, capacity: 16, headDim: 4, dtype: 'f32', device: 'cpu' }],
    KvPages: () => [{ pages: 4, pageSize: 16 }],
    mergeAttention: () => {
      const part = longspan.attention(heads(), heads(), heads(), { returnLse: true });
      return [[part], { layout: 'bhnd' }];
    },
    PagedKvCache: () => [{ batch: 1, heads: 2, pages: 4, pageSize: 16, headDim: 4, dtype: 'f32' }],
    // sparse
    bucketSort: () => [ids(4), 4, { inverse: true }],
    clusterMembers: () => [heads(), centroids(), 2, { lengths: ids(1) }],
    clusterSums: () => [heads(), ids(1, 2, 8), 4],
    commitmentLoss: () => [heads(), centroids(), ids(1, 2, 8)],
    kmeansAssign: () => [heads(), centroids(), { lengths: ids(1) }],
    kmeansInitialise: () => [clusterState(), heads(), { iterations: 1 }],
    kmeansUpdate: () => [
      clusterState(),
      heads(),
      { sums: zeros([2, 4, 4]), counts: zeros([2, 4]) },
      { decay: 0.9, epsilon: 1e-5, minimum: 0.01, rule: 'counts' },
    ],
    lshAttention: () => [
      heads(),
      heads(),
      { buckets: 4, rounds: 1, chunk: 4, causal: true, scale: 1 },
    ],
    lshAttentionLse: () => [
      heads(),
      heads(),
      { buckets: 4, rounds: 1, chunk: 4, causal: true, back: 1 },
    ],
    lshBuckets: () => [heads(), { buckets: 4, rounds: 1, generator: new Generator(1) }],
    LshCache: () => [
      { batch: 1, heads: 2, capacity: 16, buckets: 4, rounds: 1, chunk: 4, back: 1, keyDim: 4 },
    ],
    lshRotations: () => [heads(), { buckets: 4, rounds: 1, generator: new Generator(1) }],
    lshStep: () => [
      normal([1, 2, 1, 4]),
      normal([1, 2, 1, 4]),
      lshRotations(heads(), { buckets: 4, rounds: 1 }),
      lshCache(),
      { scale: 1, selfPenalty: 1000 },
    ],
    routingAttention: () => [
      heads(),
      heads(),
      heads(),
      centroids(),
      { window: 4, causal: true, scale: 1 },
    ],
    'routingAttention, balanced': () => [
      ...[heads(), heads(), heads(), centroids()],
      {
        ...{ window: 4, keyWindow: 4, balanced: true, epsilon: 1, lengths: ids(1) },
        memory: { keys: normal([2, 4, 1, 4]), values: normal([2, 4, 1, 4]) },
        masks: { queries: zeros([1, 8], { dtype: 'u8' }), keys: zeros([1, 8], { dtype: 'u8' }) },
      },
    ],
    RoutingCache: () => [{ batch: 1, heads: 2, clusters: 4, window: 4, keyDim: 4, dtype: 'f32' }],
    routingStep: () => [
      ...[normal([1, 2, 1, 4]), normal([1, 2, 1, 4]), normal([1, 2, 1, 4])],
      ...[centroids(), routingCache(), { scale: 1, selfPenalty: 1000 }],
    ],
    sortedAttention: () => {
      const { order, offsets } = bucketSort(ids(1, 2, 1, 8), 4);
      const pattern = { kind: 'chunk', chunk: 4, back: 1, forward: 0 };
      const options = {
        queries: { order, offsets },
        pattern,
        causal: true,
        self: 'hidden',
        scale: 1,
      };
      return [heads(), heads(), heads(), options];
    },
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
    Reformer: () => [
      {
        vocabSize: 8,
        dModel: 8,
        layers: 1,
        heads: 2,
        maxLength: 16,
        chunk: 4,
        rounds: 1,
        pattern: ['lsh'],
      },
    ],
    ReformerEncoder: () => [
      {
        vocabSize: 8,
        dModel: 8,
        layers: 1,
        heads: 2,
        maxLength: 16,
        chunk: 4,
        dropout: 0,
        reversible: true,
      },
    ],
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

/** Exports without a call above, and why. */
export const exempt: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    Object.keys(longspan)
      .filter((name) => name.endsWith('Error'))
      .map((name) => [name, 'carries what was thrown, whatever it is']),
  ),
  autoFallbackReason: 'takes nothing',
  isRecording: 'takes nothing',
  BlockMask: 'made by its static functions',
  MaskValue: 'given to predicates of masks',
  Device: 'made by device()',
  Stream: 'made by device.newStream()',
  Graph: 'made by device.capture()',
  Tensor: 'made by functions',
  Context: 'given to user-defined operators',
  SafetensorsFile: 'made by readSafetensorsFile()',
  DecodingState: 'made by initState()',
  NgramModel: 'made by fitNgram()',
  Module: 'abstract',
  Mechanism: 'abstract',
  Norm: 'abstract',
  TablePositions: 'abstract',
  Optimizer: 'abstract',
};

/** Methods that belong to the package itself: TypeScript keeps others from calling them. */
export const internal: ReadonlySet<string> = new Set([
  ...['stateOf', 'mastersOf', 'checkGroup'].map((name) => `Optimizer.${name}`),
  ...['stateNames', 'update', 'checkGroup'].map((name) => `AdamBase.${name}`),
  ...['planLoad', 'namedModules'].map((name) => `Module.${name}`), // the latter's second argument
  ...['layer', 'reserve', 'upcoming', 'advance'].map((name) => `DecodingState.${name}`),
  ...['allocate', 'fill', 'fillSync', 'info', 'piece', 'shortRead'].map(
    (name) => `SafetensorsFile.${name}`,
  ),
  ...['place', 'count', 'checkComplete'].map((name) => `SafetensorsWriter.${name}`),
  ...['viewAs', 'release', 'live'].map((name) => `Tensor.${name}`),
  ...['MultiHeadAttention.stateShape', 'RunDirectory.file', 'NgramModel.lookUp', 'Generator.draw'],
  ...['KvPages.cacheFor', 'PagedKvCache.beside', 'ByteVocabulary.bytes', 'BlockMask.tensors'],
]);

const anyKind = ['null', 'string', 'number', 'NaN', 'object', 'list'];
const orNumber = { 0: ['number', 'NaN'], 1: ['number', 'NaN'] };
const ofAxes = { 1: ['null', 'list'], '2.keepDims': ['null'] };
const optional = (...places: string[]) => Object.fromEntries(places.map((p) => [p, ['null']]));

/** Kinds of values that a place takes beside that of the valid call. */
const taken: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  // NaN is a number that a tensor can hold.
  ...{ full: { 1: ['NaN'] }, tensor: { '0.0': ['NaN'] }, 'initialise.constant': { 1: ['NaN'] } },
  // Numbers stand for tensors.
  ...Object.fromEntries(
    [
      'add',
      'div',
      'equal',
      'greater',
      'greaterEqual',
      'less',
      'lessEqual',
      'logicalAnd',
      'logicalOr',
    ]
      .concat(['maximum', 'minimum', 'mul', 'notEqual', 'pow', 'sub'])
      .map((name) => [name, orNumber]),
  ),
  where: { 1: ['number', 'NaN'], 2: ['number', 'NaN'] },
  // One axis, several, or all; null is nothing.
  ...Object.fromEntries(
    ['argmax', 'argmin', 'max', 'mean', 'min', 'sum'].map((name) => [name, ofAxes]),
  ),
  variance: { ...ofAxes, '2.correction': ['null'] },
  ...Object.fromEntries(
    [
      'geglu',
      'gegluTanh',
      'glu',
      'reglu',
      'swiglu',
      'rmsNorm',
      'routingAttention',
      'routingStep',
    ].map((name) => [name, optional('1')]),
  ),
  ...{
    cumsum: optional('2.reverse'),
    gelu: optional('1.approximate'),
    oneHot: optional('2.dtype'),
  },
  ...{
    embedding: optional('2.paddingIndex'),
    layerNorm: optional('1', '2'),
    linear: optional('2'),
  },
  ...{ sort: optional('1.axis', '1.descending'), topK: optional('2.axis', '2.largest') },
  ...{ clusterMembers: optional('3.lengths'), kmeansAssign: optional('2.lengths') },
  'routingAttention, balanced': optional('1', '4.lengths'),
  FeedForward: optional('2.chunk'),
  // A predicate answers any value.
  isSafetensorsDtype: { 0: anyKind },
  // Tokens are ids or words.
  corpusBleu: { '0.0.0': ['number'], '1.0.0.0': ['number'] },
  exactMatch: { '0.0.0': ['string'], '1.0.0': ['string'] },
  // What has no place on the axes interrupts a line.
  renderCurveSvg: { '0.series.0.x.0': anyKind, '0.series.0.y.0': anyKind },
  // It answers what is wrong with them.
  'attention.supported': {
    ...{ '0.dtype': anyKind, '0.headDim': anyKind, '0.queryHeads': anyKind },
    ...{ '0.uses.0': anyKind },
  },
  // Not read there.
  textLoss: { '1.count': anyKind },
};

export function takes(name: string, place: string): readonly string[] {
  return taken[name]?.[place] ?? [];
}

/** Objects whose methods are called with junk. */
export function instances(path: (name?: string) => string): Record<string, () => object> {
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
