/**
 * Results of other libraries, timed by a script of their own on the same machine: `--peer-rows FILE`.
 * FILE is JSON with `rows` of `{ operator, shape, peer, seconds, quartiles }`, as
 * `bench/peers/torch_gpu.py --out FILE` writes it. A row goes with the case of its operator and shape;
 * a case may have several peers.
 */
import { readFileSync } from 'node:fs';
import { type BenchRow, keyOf } from './result.js';

export interface PeerRow {
  operator: string;
  shape: string;
  /** Name of the library or of its function. */
  peer: string;
  /** Median seconds of one run, and quartiles. */
  seconds: number;
  quartiles: [number, number];
}

/** @throws Error when the file holds anything else */
export function readPeerRows(file: string): PeerRow[] {
  const { rows } = JSON.parse(readFileSync(file, 'utf8')) as { rows?: Partial<PeerRow>[] };
  if (!Array.isArray(rows)) throw new Error(`${file} has no list 'rows'`);
  return rows.map((row, i) => {
    const { operator, shape, peer, seconds, quartiles } = row;
    const wrong = Object.entries({ operator, shape, peer }).find(([, v]) => typeof v !== 'string');
    if (wrong) throw new Error(`${file}: '${wrong[0]}' of row ${i} is ${JSON.stringify(wrong[1])}`);
    if (!((seconds as number) > 0 && quartiles?.every((q) => q > 0)))
      throw new Error(`${file}: 'seconds' and 'quartiles' of row ${i} are no times`);
    return row as PeerRow;
  });
}

const matches = (row: BenchRow) => (peer: PeerRow) =>
  peer.operator === row.operator && peer.shape === row.shape;

/** The row with its peers, the fastest of them as the one it is compared with. */
export function withPeers(row: BenchRow, peers: readonly PeerRow[]): BenchRow {
  const [low, high] = row.quartiles;
  const mine = peers
    .filter(matches(row))
    .sort((a, b) => a.seconds - b.seconds)
    .map(({ peer, seconds, quartiles }) => ({
      name: peer,
      seconds,
      ratio: seconds / row.seconds,
      // The rounds are not the same: the widest that both spreads allow.
      quartiles: [quartiles[0] / high, quartiles[1] / low] as [number, number],
    }));
  return mine.length === 0 ? row : { ...row, peer: mine[0], peers: mine };
}

/** Rows of peers that no case goes with: most likely the two spell a shape differently. */
export function unmatched(rows: readonly BenchRow[], peers: readonly PeerRow[]): string[] {
  return peers
    .filter((peer) => !rows.some((row) => matches(row)(peer)))
    .map((peer) => `${keyOf({ ...peer, threads: 0 })} of ${peer.peer}`);
}
