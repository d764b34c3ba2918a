import * as longspan from 'longspan';

const wrong: [string, () => unknown, RegExp][] = [
  [
    'loadCorpus',
    () => longspan.loadCorpus('.', { extension: [] } as object),
    /'extension' is not an option. Did you mean 'extensions'\?/,
  ],
  ['splitCorpus', () => longspan.splitCorpus([], { share: 1 } as object), /'validation'/],
  ['fitNgram', () => longspan.fitNgram(new Uint8Array(9), 1, { heldout: 1 } as object), /heldOut/],
  ['beamSearch', () => longspan.beamSearch({ beams: 4 } as never), /Did you mean 'beam'/],
  ['corpusBleu', () => longspan.corpusBleu([[1]], [[[1]]], { order: 2 } as object), /maxOrder/],
  ['renderCurveSvg', () => longspan.renderCurveSvg({ series: [], logx: 1 } as never), /'logX'/],
  ['noamSchedule', () => longspan.noamSchedule({ warmUp: 1 } as never), /'warmup'/],
  ['cosineSchedule', () => longspan.cosineSchedule(null as never), /'options' is null/],
  [
    'sinusoidalPositions',
    () => longspan.sinusoidalPositions(1, 2, { basis: 1 } as never),
    /'base'/,
  ],
  ['BatchSampler', () => new longspan.BatchSampler({ batchSize: 1 } as never), /'batchSize'/],
  [
    'writeSafetensorsFile',
    () => longspan.writeSafetensorsFile('x', [], { meta: {} } as object),
    /'meta' is not an option/,
  ],
];

test.each(wrong)('%s refuses an option it does not have', async (_, call, message) => {
  const error = await (async () => call())().catch((e: unknown) => e);
  expect(error).toMatchObject({ code: 'ERR_OPTION', message: expect.stringMatching(message) });
});
