/** What the machine can do at most, measured beside the cases in every round. */
import { matmul, normal } from 'longspan';
import { measurePeak } from '#lib/core/peak';
import type { BenchCase, BenchContext } from './case.js';
import { type Timed, timed } from './timing.js';

/** Rates by name: FLOP/s, and bytes/s of `copy`. */
export type Rates = Record<string, number>;

export interface Ceilings {
  measure(threads: number): Promise<Rates>;
  /** The name of the ceiling that a case with FLOPs is held against; one with bytes has `copy`. */
  arithmetic(spec: BenchCase): string;
  dispose(): void;
}

/** Independent fused multiply-adds in registers, and a copy from memory to memory. */
function cpuCeilings(): Ceilings {
  return {
    measure: async (threads) => ({ ...measurePeak({ threads, seconds: 0.02 }) }),
    arithmetic: () => 'fma',
    dispose: () => undefined,
  };
}

/**
 * On a GPU the longest matmuls of this package, in 16 and in 32 bits, and a copy far larger than its
 * caches. That of a library comes in as a peer's row.
 */
function gpuCeilings({ device, smoke }: BenchContext): Ceilings {
  const square = (n: number, dtype: 'bf16' | 'f32') => ({
    n,
    a: normal([n, n], { device, dtype }),
    b: normal([n, n], { device, dtype }),
  });
  const products = {
    gemm16: square(smoke ? 32 : 8192, 'bf16'),
    gemm32: square(smoke ? 32 : 4096, 'f32'),
  };
  const block = normal([smoke ? 1 << 10 : 1 << 26], { device });
  const work: Record<string, { amount: number; run: () => void }> = {
    copy: { amount: 2 * block.byteLength, run: () => block.clone().dispose() },
  };
  for (const [name, { n, a, b }] of Object.entries(products)) {
    work[name] = { amount: 2 * n ** 3, run: () => matmul(a, b).dispose() };
  }
  const ready = new Map<string, Timed>();
  return {
    async measure() {
      const rates: Rates = {};
      for (const [name, { amount, run }] of Object.entries(work)) {
        const sampleSeconds = smoke ? 0 : 0.02;
        const known = ready.get(name) ?? (await timed({ run }, device, { sampleSeconds }));
        ready.set(name, known);
        rates[name] = amount / (await known.sample()).seconds;
      }
      return rates;
    },
    arithmetic: ({ dtype = 'f32' }) => (dtype === 'f32' ? 'gemm32' : 'gemm16'),
    dispose() {
      for (const one of ready.values()) one.dispose();
      for (const { a, b } of Object.values(products)) for (const t of [a, b]) t.dispose();
      block.dispose();
    },
  };
}

export function ceilingsOf(context: BenchContext): Ceilings {
  return context.device.type === 'cpu' ? cpuCeilings() : gpuCeilings(context);
}
