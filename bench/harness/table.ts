/** Rows as text. */
import type { BenchRow } from './result.js';

export function formatSeconds(s: number): string {
  if (s < 1e-3) return `${(s * 1e6).toFixed(2)} us`;
  if (s < 1) return `${(s * 1e3).toFixed(2)} ms`;
  return `${s.toFixed(2)} s`;
}

export const header = [
  'operator'.padEnd(22),
  'shape'.padEnd(44),
  'thr',
  'time'.padStart(10),
  'wall'.padStart(10),
  'rate'.padStart(14),
  'of ceiling'.padStart(11),
  'peer',
].join('  ');

export function formatRow(row: BenchRow): string {
  const rate = row.tokensPerSecond
    ? `${row.tokensPerSecond.toFixed(0)} tokens/s`
    : row.flopsPerSecond
      ? `${(row.flopsPerSecond / 1e9).toFixed(1)} GFLOP/s`
      : row.bytesPerSecond
        ? `${(row.bytesPerSecond / 1e9).toFixed(1)} GB/s`
        : '';
  const fraction =
    row.fractionOfCeiling === undefined
      ? ''
      : `${(100 * row.fractionOfCeiling).toFixed(0)} % ${row.ceiling}`;
  const memory =
    row.peakBytes === undefined ? '' : `${(row.peakBytes / 1e6).toFixed(2)} MB at most`;
  const recall = row.recall === undefined ? '' : `${(100 * row.recall).toFixed(1)} % found`;
  const peer = row.peer
    ? `${row.peer.ratio.toFixed(2)}x ${row.peer.name} (${row.peer.quartiles.map((q) => q.toFixed(2)).join(' to ')})`
    : '';
  return [
    row.operator.padEnd(22),
    row.shape.padEnd(44),
    (row.threads === 0 ? 'gpu' : String(row.threads)).padStart(3),
    formatSeconds(row.seconds).padStart(10),
    (row.wallSeconds === undefined ? '' : formatSeconds(row.wallSeconds)).padStart(10),
    rate.padStart(14),
    fraction.padStart(11),
    [memory, recall, peer].filter((text) => text !== '').join('  '),
  ].join('  ');
}
