/** What is not called with junk, and junk that is taken. */
import * as longspan from 'longspan';

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
  ...['KvPages.cacheFor', 'ByteVocabulary.bytes', 'BlockMask.tensors'],
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
