/** Making tensors from host data and from constants. */
import { addon, packed, throwLast } from '../native.js';
import { show } from './declare.js';
import { device as deviceOf } from './device.js';
import { type DType, dtypeIndex, dtypeSize } from './dtype.js';
import { ArgumentError } from './errors.js';
import { checkLengths, checkOptions } from './options.js';
import { checkDtype, copy, full, type TensorOptions } from './primitives.js';
import { hostBuffer, hostBytes, type Shape, Tensor } from './tensor.js';

export { full, type TensorOptions } from './primitives.js';

/** Nested arrays of numbers. */
export type Nested = number | readonly Nested[];

/** What the elements of a typed array are when no dtype is given. */
function naturalDtype(data: ArrayBufferView): DType | null {
  switch (data.constructor.name) {
    case 'Float32Array':
      return 'f32';
    case 'Float64Array':
      return 'f64';
    case 'Int32Array':
      return 'i32';
    case 'Uint8Array':
    case 'Buffer':
      return 'u8';
    case 'Float16Array':
      return 'f16';
    default:
      return null;
  }
}

/** @internal A tensor over raw little-endian bytes, copied. */
export function fromBytes(
  data: ArrayBuffer | ArrayBufferView,
  shape: Shape,
  dtype: DType,
  device: TensorOptions['device'],
): Tensor {
  const on = deviceOf(device);
  packed[0] = on.stream.id;
  packed[1] = dtypeIndex[dtype];
  packed[2] = shape.length;
  shape.forEach((d, i) => {
    packed[3 + i] = d;
  });
  if (addon.create(hostBytes('tensor', data)) !== 0) throwLast('tensor');
  return new Tensor(packed[0] as number, dtype, [...shape], on);
}

/**
 * A tensor with the values of `data`, copied before the call returns.
 *
 * Typed arrays keep their element type: `Float32Array` f32, `Float64Array` f64, `Int32Array` i32,
 * `Uint8Array` u8, `Float16Array` f16; a `Uint16Array` holds raw bits and needs `dtype: 'f16'` or `'bf16'`.
 * Numbers and nested arrays become f32. Any other `dtype` converts.
 *
 * @param options.shape default: the nesting, or one axis; its product must be the number of elements
 * @throws ArgumentError for ragged nesting, a wrong shape or values that are not numbers
 * @example
 * const a = tensor([[1, 2], [3, 4]]);
 * const ids = tensor(new Int32Array([5, 6]), { shape: [1, 2] });
 */
export function tensor(
  data: Nested | ArrayBufferView,
  options: TensorOptions & { shape?: Shape } = {},
): Tensor {
  checkOptions('tensor', options, ['shape', 'dtype', 'device']);
  if (options.dtype !== undefined) checkDtype('tensor', options.dtype);
  if (options.shape !== undefined) checkLengths('tensor', 'shape', options.shape);
  if (ArrayBuffer.isView(data)) {
    const natural = naturalDtype(data);
    const bits =
      data.constructor.name === 'Uint16Array' &&
      (options.dtype === 'f16' || options.dtype === 'bf16');
    const from = bits ? (options.dtype as DType) : natural;
    if (from === null) {
      throw new ArgumentError(
        'ERR_DTYPE',
        'tensor',
        'data',
        show(data),
        "Use a Float32Array, Float64Array, Int32Array or Uint8Array, or a Uint16Array with dtype 'f16' or 'bf16'",
      );
    }
    const count = data.byteLength / dtypeSize[from];
    return convert(
      fromBytes(data, checkShape(options.shape ?? [count], count), from, options.device),
      options.dtype,
    );
  }
  const values: number[] = [];
  const nesting = flatten(data, values, []);
  const shape = checkShape(options.shape ?? nesting, values.length);
  if (options.dtype === 'i32' || options.dtype === 'u8') checkIntegers(values, options.dtype);
  const wide = options.dtype === 'f64' || options.dtype === 'i32';
  return convert(
    fromBytes(
      wide ? Float64Array.from(values) : Float32Array.from(values),
      shape,
      wide ? 'f64' : 'f32',
      options.device,
    ),
    options.dtype ?? 'f32',
  );
}

/** Fractions are cut off; what an integer cannot hold would change silently. */
function checkIntegers(values: readonly number[], dtype: 'i32' | 'u8'): void {
  const [low, high] = dtype === 'u8' ? [0, 255] : [-(2 ** 31), 2 ** 31 - 1];
  const bad = values.find((x) => !(Math.trunc(x) >= low && Math.trunc(x) <= high));
  if (bad === undefined) return;
  const remedy = `${dtype} holds numbers from ${low} to ${high}`;
  throw new ArgumentError('ERR_VALUE', 'tensor', 'data', show(bad), remedy);
}

function convert(t: Tensor, dtype: DType | undefined): Tensor {
  if (dtype === undefined || dtype === t.dtype) return t;
  const converted = copy(t, dtype);
  t.dispose();
  return converted;
}

function checkShape(shape: Shape, count: number): Shape {
  if (
    shape.length > 8 ||
    shape.some((d) => !Number.isSafeInteger(d) || d < 0) ||
    shape.reduce((n, d) => n * d, 1) !== count
  ) {
    throw new ArgumentError(
      'ERR_SHAPE',
      'tensor',
      'shape',
      show(shape),
      `It must hold the ${count} elements of data on at most 8 axes`,
    );
  }
  return shape;
}

function flatten(data: unknown, into: number[], path: readonly number[]): number[] {
  if (typeof data === 'number') {
    into.push(data);
    return [];
  }
  if (!Array.isArray(data)) {
    throw new ArgumentError(
      'ERR_VALUE',
      'tensor',
      `data${path.map((i) => `[${i}]`).join('')}`,
      show(data),
      'Use numbers, nested arrays of numbers or a typed array',
    );
  }
  let inner: number[] | null = null;
  data.forEach((item, i) => {
    const shape = flatten(item, into, [...path, i]);
    if (
      inner !== null &&
      (shape.length !== inner.length || shape.some((d, k) => d !== inner?.[k]))
    ) {
      throw new ArgumentError(
        'ERR_SHAPE',
        'tensor',
        `data${[...path, i].map((k) => `[${k}]`).join('')}`,
        `of shape ${show(shape)}`,
        `Its siblings have shape ${show(inner)}; rows must be of one length`,
      );
    }
    inner = shape;
  });
  return [data.length, ...(inner ?? [])];
}

/**
 * Zeros.
 *
 * @example
 * zeros([2, 3]).shape; // [2, 3]
 * zeros([4], { dtype: 'i32' }).dataSync(); // 0, 0, 0, 0
 */
export function zeros(shape: Shape, options?: TensorOptions): Tensor {
  return full(shape, 0, options);
}

/**
 * Ones.
 *
 * @example
 * ones([2], { dtype: 'f64' }).dataSync(); // 1, 1
 */
export function ones(shape: Shape, options?: TensorOptions): Tensor {
  return full(shape, 1, options);
}

/**
 * start, start + step, ... without `end`; `arange(n)` counts from 0. Default dtype i32 for integers, else f32.
 *
 * @example
 * arange(3).dataSync(); // 0, 1, 2
 */
export function arange(start: number, end?: number, step = 1, options: TensorOptions = {}): Tensor {
  checkOptions('arange', options, ['dtype', 'device']);
  const [from, to] = end === undefined ? [0, start] : [start, end];
  for (const [name, bound] of Object.entries({ start: from, end: to, step })) {
    if (Number.isFinite(bound) && !(name === 'step' && bound === 0)) continue;
    const remedy = 'Use finite bounds and a step other than 0';
    throw new ArgumentError('ERR_VALUE', 'arange', name, show(bound), remedy);
  }
  const count = Math.max(0, Math.ceil((to - from) / step));
  const integers = Number.isInteger(from) && Number.isInteger(step);
  const values = new Float64Array(hostBuffer('arange', 8 * count));
  for (let i = 0; i < count; i++) values[i] = from + i * step;
  const { dtype = integers ? 'i32' : 'f32' } = options;
  return tensor(values, { ...options, dtype });
}
