import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bf16ToF32, f16ToF32, readSafetensorsFileSync } from 'longspan';
import { root } from './root.js';

/** What a manifest says of a tensor; `test/goldens/README.md` explains the fields. */
export interface GoldenTensorInfo {
  role: 'input' | 'upstream' | 'output' | 'gradient';
  of?: string;
  dtype: string;
  shape: number[];
  compare?: 'atol' | 'exact' | 'none';
  atol?: Record<'f64' | 'f32' | 'bf16' | 'f16', number>;
  source?: string;
  why?: string;
}

export interface GoldenManifest {
  id: string;
  mechanism: string;
  params: Record<string, unknown>;
  conventions: string[];
  tensors: Record<string, GoldenTensorInfo>;
}

/** A tensor of a case, widened to float64 whatever it was stored as. */
export interface GoldenTensor {
  dtype: string;
  shape: number[];
  data: Float64Array;
}

export interface Golden {
  manifest: GoldenManifest;
  tensor(name: string): GoldenTensor;
}

function widen(dtype: string, bytes: Uint8Array): Float64Array {
  const { buffer } = bytes;
  switch (dtype) {
    case 'F64':
      return new Float64Array(buffer);
    case 'F32':
      return Float64Array.from(new Float32Array(buffer));
    case 'F16':
      return Float64Array.from(f16ToF32(new Uint16Array(buffer)));
    case 'BF16':
      return Float64Array.from(bf16ToF32(new Uint16Array(buffer)));
    case 'I64':
      return Float64Array.from(new BigInt64Array(buffer), Number);
    case 'I32':
      return Float64Array.from(new Int32Array(buffer));
    case 'U8':
    case 'BOOL':
      return Float64Array.from(bytes);
    default:
      throw new Error(`golden tensors of dtype ${dtype} are not read yet`);
  }
}

/** Reads a case by its id from `test/goldens/models` or `test/goldens/attention`. */
export function loadGolden(id: string, folder: 'models' | 'attention' = 'models'): Golden {
  const base = join(root, 'test/goldens', folder, id);
  const manifest = JSON.parse(readFileSync(`${base}.json`, 'utf8')) as GoldenManifest;
  const tensors = new Map<string, GoldenTensor>();
  using file = readSafetensorsFileSync(`${base}.safetensors`);
  for (const [name, { dtype, shape }] of file.tensors) {
    tensors.set(name, { dtype, shape: [...shape], data: widen(dtype, file.readSync(name)) });
  }
  return {
    manifest,
    tensor(name) {
      const tensor = tensors.get(name);
      if (!tensor) throw new Error(`${id} has no tensor ${name}`);
      return tensor;
    },
  };
}

/** Largest absolute difference between two arrays of one length; NaN counts as infinite. */
export function maxError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] === expected[i]) continue;
    const error = Math.abs(actual[i] - expected[i]);
    worst = Math.max(worst, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
  }
  return worst;
}
