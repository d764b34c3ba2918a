/** Reading golden cases; `test/goldens/README.md` explains the format. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { bf16ToF32, f16ToF32, readSafetensorsFileSync } from 'longspan';
import { root } from './root.js';

export type Precision = 'f64' | 'f32' | 'bf16' | 'f16';
export type Tolerances = Partial<Record<Precision, number>>;

/** Tolerances for the elements `rows` (leading indices), or for those `above` a magnitude. */
export interface GoldenException {
  rows?: number[][];
  above?: number;
  atol: Tolerances;
}

/** What a manifest says of a tensor. */
export interface GoldenTensorInfo {
  role: 'input' | 'upstream' | 'output' | 'gradient';
  of?: string;
  dtype: string;
  shape: number[];
  compare?: 'atol' | 'exact' | 'none';
  atol?: Tolerances;
  exceptions?: GoldenException[];
  source?: string;
  why?: string;
}

export interface GoldenManifest {
  format: number;
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

type Fields = Record<string, unknown>;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const isIndex = (n: unknown): boolean => Number.isSafeInteger(n) && (n as number) >= 0;

function isTolerances(value: unknown): boolean {
  return (
    isObject(value) &&
    Object.values(value).every((x) => typeof x === 'number' && x >= 0 && x < 1e300)
  );
}

function isException(value: unknown): boolean {
  if (!isObject(value) || !isTolerances(value.atol)) return false;
  if (value.rows === undefined) return typeof value.above === 'number';
  return (
    Array.isArray(value.rows) &&
    value.rows.every((row) => Array.isArray(row) && row.length > 0 && row.every(isIndex))
  );
}

/** What is wrong with a tensor's entry, or nothing. */
function flaw(info: unknown): string | undefined {
  if (!isObject(info)) return 'is no object';
  const { role, dtype, shape, compare, atol, exceptions } = info;
  if (!['input', 'upstream', 'output', 'gradient'].includes(role as string)) {
    return `has the role ${JSON.stringify(role)}`;
  }
  if (typeof dtype !== 'string') return 'has no dtype';
  if (!Array.isArray(shape) || !shape.every(isIndex)) {
    return `has the shape ${JSON.stringify(shape)}`;
  }
  if (role === 'input' || role === 'upstream') return undefined;
  if (!['atol', 'exact', 'none'].includes(compare as string)) {
    return `has the comparison ${JSON.stringify(compare)}`;
  }
  if (compare === 'atol' && !isTolerances(atol)) return `has the atol ${JSON.stringify(atol)}`;
  if (exceptions === undefined) return undefined;
  const sound = Array.isArray(exceptions) && exceptions.every(isException);
  return sound ? undefined : 'has exceptions that cannot be read';
}

function readManifest(path: string, id: string): GoldenManifest {
  let manifest: unknown;
  try {
    manifest = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new Error(`${path}: ${(cause as Error).message}`, { cause });
  }
  const wrong = (what: string): never => {
    throw new Error(`${path}: ${what}`);
  };
  if (!isObject(manifest)) return wrong('it is no JSON object');
  if (manifest.format !== 2)
    wrong(`format ${JSON.stringify(manifest.format)} is not known, only 2`);
  if (manifest.id !== id) wrong(`its id is ${JSON.stringify(manifest.id)}, not the file's name`);
  if (typeof manifest.mechanism !== 'string') wrong('it names no mechanism');
  if (!isObject(manifest.params)) wrong('it has no params');
  if (!isObject(manifest.tensors)) wrong('it lists no tensors');
  for (const [name, info] of Object.entries(manifest.tensors as Fields)) {
    const found = flaw(info);
    if (found !== undefined) wrong(`tensor ${name} ${found}`);
  }
  return manifest as unknown as GoldenManifest;
}

/** The ids of the cases in a folder, in alphabetical order. */
export function listGoldens(folder: string): string[] {
  let files: string[];
  try {
    files = readdirSync(folder);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const what = code === 'ENOENT' ? 'does not exist' : code === 'ENOTDIR' ? 'is no folder' : code;
    throw new Error(`${folder} ${what}: give a folder of golden cases`, { cause });
  }
  const ids = new Set<string>();
  for (const file of files) {
    const match = /^(.+)\.(json|safetensors)$/.exec(file);
    if (match) ids.add(match[1]);
  }
  if (ids.size === 0) {
    throw new Error(`${folder} holds no golden case: a case is <id>.json beside <id>.safetensors`);
  }
  return [...ids].sort();
}

/** Reads a case of any folder and holds its tensors against its manifest. */
export function readGolden(folder: string, id: string): Golden {
  if (basename(id) !== id) throw new Error(`${id} is no case's name`);
  const base = join(folder, id);
  for (const extension of ['json', 'safetensors']) {
    if (!existsSync(`${base}.${extension}`)) throw new Error(`${base}.${extension} is missing`);
  }
  const manifest = readManifest(`${base}.json`, id);
  const tensors = new Map<string, GoldenTensor>();
  using file = readSafetensorsFileSync(`${base}.safetensors`);
  for (const [name, info] of Object.entries(manifest.tensors)) {
    const stored = file.tensors.get(name);
    if (!stored) throw new Error(`${base}.safetensors lacks the tensor ${name} of the manifest`);
    const { dtype, shape } = stored;
    if (dtype !== info.dtype || shape.join() !== info.shape.join()) {
      throw new Error(
        `${base}: ${name} is ${dtype}[${shape}] in the file, ${info.dtype}[${info.shape}] in the manifest`,
      );
    }
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

/** Reads a case by its id from `test/goldens/models` or `test/goldens/attention`. */
export function loadGolden(id: string, folder: 'models' | 'attention' = 'models'): Golden {
  return readGolden(join(root, 'test/goldens', folder), id);
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
