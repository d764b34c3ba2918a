/** Decoding: caches contiguous and in pages, keys rotated on their way into the cache, a shared prefix. */
import {
  attentionDecode,
  attentionDecodeShared,
  type DecodingCache,
  type Device,
  type DType,
  KvCache,
  normal,
  PagedKvCache,
  rotary,
  type Tensor,
} from 'longspan';
import { type BenchCase, type BenchContext, defineBench, type Prepared } from '../harness/case.js';
import { ownWork } from '../harness/own-work.js';

interface Shape {
  batch: number;
  heads: number;
  kvHeads: number;
  d: number;
  /** Tokens in the cache. */
  length: number;
  dtype: DType;
}

const label = ({ dtype, batch, heads, kvHeads, length, d }: Shape) =>
  `${dtype} B${batch} H${heads}/${kvHeads} M${length} D${d}`;

const bytesOf = ({ batch, kvHeads, length, d, dtype }: Shape) =>
  2 * batch * kvHeads * length * d * (dtype === 'f32' ? 4 : 2);

const queries = (device: Device, { batch, heads, d, dtype }: Shape) =>
  normal([batch, heads, 1, d], { device, dtype });

const tokens = (device: Device, { batch, kvHeads, d, dtype }: Shape, count: number) =>
  normal([batch, kvHeads, count, d], { device, dtype });

type Cache = DecodingCache & { dispose(): void };

/** A full cache; in pages if they have a size, those of the sequences interleaved. */
function cacheOf(device: Device, shape: Shape, pageSize: number, length = shape.length): Cache {
  const { batch, kvHeads: heads, d: headDim, dtype } = shape;
  const sizes = { batch, heads, headDim, dtype, device };
  if (pageSize === 0) {
    const cache = new KvCache({ ...sizes, capacity: length });
    const all = tokens(device, shape, length);
    cache.append(all, all);
    all.dispose();
    return cache;
  }
  const pagesPerEntry = Math.ceil(length / pageSize);
  const cache = new PagedKvCache({
    ...sizes,
    pages: batch * pagesPerEntry,
    pagesPerEntry,
    pageSize,
  });
  for (let b = 0; b < batch; b++) cache.admit();
  for (let done = 0; done < length; done += pageSize) {
    const some = tokens(device, shape, Math.min(pageSize, length - done));
    cache.append(some, some);
    some.dispose();
  }
  return cache;
}

function decode(device: Device, shape: Shape, pageSize: number): Prepared {
  const q = queries(device, shape);
  const cache = cacheOf(device, shape, pageSize);
  return {
    run: () => attentionDecode(q, cache).dispose(),
    dispose() {
      q.dispose();
      cache.dispose();
    },
  };
}

/** A step with a rotary embedding, its cache emptied by the same call each time. */
function step(device: Device, shape: Shape, fused: boolean): Prepared {
  const { batch, kvHeads: heads, d: headDim, dtype, length } = shape;
  const q = queries(device, shape);
  const k = tokens(device, shape, 1);
  const cache = new KvCache({ batch, heads, capacity: length + 1, headDim, dtype, device });
  const all = tokens(device, shape, length);
  cache.append(all, all);
  all.dispose();
  const apart = (): Tensor => {
    const [turned, key] = [q, k].map((x) => rotary(x, { offset: length })) as [Tensor, Tensor];
    cache.append(key, k);
    key.dispose();
    return turned;
  };
  return {
    run() {
      const turned = fused ? cache.append(k, k, { rotary: { queries: q } }) : apart();
      attentionDecode(turned, cache).dispose();
      turned.dispose();
      cache.truncate(length);
    },
    dispose() {
      for (const t of [q, k, cache]) t.dispose();
    },
  };
}

/** All sequences share their first tokens, stored once or by each. */
function prefixed(device: Device, shape: Shape, own: number, shared: boolean): Prepared {
  const q = queries(device, shape);
  const prefix = cacheOf(device, { ...shape, batch: 1 }, 0, shape.length - own);
  const cache = cacheOf(device, shape, 0, shared ? own : shape.length);
  return {
    run: () =>
      (shared ? attentionDecodeShared(q, prefix, cache) : attentionDecode(q, cache)).dispose(),
    dispose() {
      for (const t of [q, prefix, cache]) t.dispose();
    },
  };
}

export default defineBench({
  name: 'attention-decode',
  cases({ device, smoke }: BenchContext): BenchCase[] {
    const sizes = smoke
      ? { batch: 2, heads: 4, kvHeads: 2, d: 16, length: 70 }
      : device.type === 'cuda'
        ? { batch: 16, heads: 32, kvHeads: 8, d: 128, length: 8192 }
        : { batch: 4, heads: 16, kvHeads: 4, d: 64, length: 4096 };
    const rows: BenchCase[] = [];
    for (const dtype of device.type === 'cuda' ? (['bf16'] as const) : (['f32', 'bf16'] as const)) {
      const shape: Shape = { ...sizes, dtype };
      const row = (what: string, prepare: () => Prepared, bytes = bytesOf(shape)) => ({
        operator: 'attentionDecode',
        shape: `${label(shape)}${what}`,
        bytes,
        prepare,
      });
      const whole = () => decode(device, shape, 0);
      rows.push(row('', whole));
      for (const pageSize of smoke ? [16] : [256, 64, 16, 1]) {
        rows.push({
          ...row(`, pages of ${pageSize}`, () => decode(device, shape, pageSize)),
          peer: ownWork('contiguous', device, whole),
        });
      }
      if (dtype === 'bf16' && device.type === 'cpu') continue;
      const short: Shape = { ...shape, length: Math.ceil(shape.length / 16) };
      rows.push({
        operator: 'rotary, append, decode',
        shape: label(short),
        bytes: bytesOf(short),
        prepare: () => step(device, short, true),
        peer: ownWork('three operators', device, () => step(device, short, false)),
      });
      const many: Shape = { ...shape, batch: shape.batch * 4 };
      const own = Math.ceil(shape.length / 16);
      rows.push({
        ...row(
          '',
          () => prefixed(device, many, own, true),
          bytesOf({ ...many, length: own }) +
            bytesOf({ ...many, batch: 1, length: many.length - own }),
        ),
        operator: 'attentionDecodeShared',
        shape: `${label(many)}, ${own} of one's own`,
        peer: ownWork('unshared', device, () => prefixed(device, many, own, false)),
      });
    }
    return rows;
  },
});
