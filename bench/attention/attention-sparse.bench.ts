/** What masks save: windows, block masks and packed sequences beside our own dense attention. */
import { type AttentionOptions, attention, BlockMask, normal, Random } from 'longspan';
import { type BenchCase, type BenchContext, defineBench, type Prepared } from '../harness/case.js';
import { ownWork } from '../harness/own-work.js';

interface Shape {
  n: number;
  heads: number;
  d: number;
}

function work(
  { device }: BenchContext,
  { n, heads, d }: Shape,
  options: () => AttentionOptions & { returnLse?: false },
): Prepared {
  const dtype = device.type === 'cuda' ? 'bf16' : 'f32';
  const [q, k, v] = [0, 1, 2].map(() => normal([1, heads, n, d], { device, dtype }));
  const given = options();
  return {
    run: () => attention(q, k, v, given).dispose(),
    dispose: () => {
      for (const t of [q, k, v]) t.dispose();
      given.blockMask?.dispose();
    },
  };
}

/** A row that is compared with the same shape without a mask; FLOPs count the pairs that are seen. */
function sparse(
  context: BenchContext,
  shape: Shape,
  label: string,
  pairs: number,
  options: () => AttentionOptions & { returnLse?: false },
): BenchCase {
  const { n, heads, d } = shape;
  const narrow = context.device.type === 'cuda';
  return {
    operator: 'attention',
    shape: `${narrow ? 'bf16' : 'f32'} B1 H${heads} N${n} D${d} ${label}`,
    flops: 4 * heads * d * pairs,
    ...(narrow && { dtype: 'bf16' as const }),
    prepare: () => work(context, shape, options),
    peer: ownWork('dense', context.device, () => work(context, shape, () => ({}))),
  };
}

/** Blocks drawn with a probability, the same for all heads, and the diagonal. */
function randomLayout(blocks: number, density: number): number[][] {
  const random = new Random(1);
  return Array.from({ length: blocks }, (_, r) =>
    Array.from({ length: blocks }, (_, c) => Number(random.uniform() < density || r === c)),
  );
}

export default defineBench({
  name: 'attention-sparse',
  cases(context) {
    const shape: Shape = context.smoke ? { n: 128, heads: 2, d: 32 } : { n: 4096, heads: 8, d: 64 };
    const long: Shape = context.smoke ? shape : { ...shape, n: 8192 };
    const left = context.smoke ? 16 : 256;
    const rows: BenchCase[] = [
      sparse(context, long, `window (${left}, 0)`, long.n * (left + 1), () => ({
        window: [left, 0],
      })),
    ];
    for (const blockSize of [16, 32, 64, 128]) {
      for (const density of [0.1, 0.5]) {
        const blocks = Math.ceil(shape.n / blockSize);
        const layout = randomLayout(blocks, density);
        const seen = layout.flat().reduce((sum, x) => sum + x, 0);
        const label = `blocks of ${blockSize}, density ${density}`;
        rows.push(
          sparse(context, shape, label, seen * blockSize ** 2, () => ({
            blockMask: BlockMask.fromLayout(layout, {
              ...{ queries: shape.n, blockSize, device: context.device },
            }),
          })),
        );
      }
    }
    const count = context.smoke ? 4 : 16;
    const length = shape.n / count;
    const cuSeqlens = Array.from({ length: count + 1 }, (_, i) => i * length);
    rows.push(
      sparse(context, shape, `${count} packed sequences`, count * length ** 2, () => ({
        cuSeqlens,
      })),
    );
    return context.device.type === 'cuda' ? [rows[0] as BenchCase] : rows;
  },
});
