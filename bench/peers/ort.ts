/** onnxruntime as a peer: a child process, so that it never shares this process's threads. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import type { Peer } from '../harness/case.js';

/** Its thread pool spins after a run and would slow down whatever is timed next. */
const spinMilliseconds = 400;

// Compiled benchmarks run from another folder than the sources, where the peer is installed.
function peerFolder(): string | null {
  for (let folder = __dirname; ; folder = path.dirname(folder)) {
    const peers = path.join(folder, 'bench/peers');
    if (existsSync(path.join(peers, 'node_modules/onnxruntime-node'))) return peers;
    if (folder === path.dirname(folder)) return null;
  }
}

/**
 * `com.microsoft.MultiHeadAttention` on f32 [1, length, heads * dim]. Without an installation in
 * `bench/peers` (`npm ci --prefix bench/peers`) its samples are null.
 */
export function ortAttention(options: {
  length: number;
  heads: number;
  dim: number;
  threads: number;
  causal: boolean;
}): Peer {
  let child: ChildProcess | null = null;
  let lines: AsyncIterator<string> | null = null;
  let reader: Interface | null = null;
  const folder = peerFolder();

  async function line(): Promise<string> {
    const next = await lines?.next();
    if (!next || next.done)
      throw new Error('the onnxruntime process ended; run it by hand to see why');
    return next.value;
  }

  async function start(from: string): Promise<void> {
    const { causal, ...numbers } = options;
    const flags = Object.entries(numbers).flatMap(([name, n]) => [`--${name}`, String(n)]);
    const script = path.join(from, 'ort-attention.mjs');
    child = spawn(process.execPath, [script, ...flags, ...(causal ? ['--causal'] : [])], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    reader = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    lines = reader[Symbol.asyncIterator]();
    await line();
  }

  return {
    name: 'onnxruntime',
    async sample() {
      if (folder === null) return null;
      if (child === null) await start(folder);
      child?.stdin?.write('\n');
      const seconds = Number(await line());
      await pause(spinMilliseconds);
      return seconds;
    },
    close() {
      reader?.close();
      child?.kill();
      child = null;
    },
  };
}
