import { types } from 'node:util';
import { addon, packed, settled, throwLast } from '../native.js';
import type { GraphNode } from './autograd/graph.js';
import type { Device } from './device.js';
import { type DType, dtypeSize, type TensorData, typedArrayOf } from './dtype.js';
import { ArgumentError, DisposedError, OutOfMemoryError } from './errors.js';
import { register } from './scope.js';

/** Lengths of the axes. */
export type Shape = readonly number[];

/** What the views of one piece of memory share. */
interface Storage {
  /** Counts in-place writes, so that backward notices a saved tensor that changed. */
  version: number;
}

type Fate = 'alive' | 'dispose' | 'tidy' | 'backward';

const fates: Readonly<Record<Fate, [what: string, remedy: string]>> = {
  alive: ['is alive', ''],
  dispose: ['was disposed', 'Use it before dispose()'],
  tidy: ['was freed at the end of its tidy scope', 'Return it from tidy(), or keep() it inside'],
  backward: [
    'was released by backward(), which consumes the graph',
    'Call retain() on it before backward(), or pass { retainGraph: true }',
  ],
};

// New small tensors wait here before native code learns of their objects: most are gone by then.
const young: Tensor[] = [];
let youngBytes = 0;
const kYoungTensors = 64;
const kYoungBytes = 1 << 20;

/**
 * An n-dimensional array on a device. Operators are functions (`add(a, b)`); a tensor itself knows its
 * shape, how to view, move and read itself, and its place in the graph of gradients.
 *
 * Values arrive in stream order: making a tensor never waits for arithmetic, reading does.
 */
export class Tensor {
  /** @internal Brand for code below this class. */
  readonly isTensor = true;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly device: Device;
  /** Element strides, row-major unless the tensor is a view. */
  readonly strides: Shape;
  /** @internal */
  readonly offset: number;
  /** @internal */
  readonly storage: Storage;
  /** @internal Whether it was made as a view of memory that other tensors may share. */
  readonly isView: boolean;
  /** @internal Native handle, -1 once released. */
  handle: number;
  /** @internal */
  node: GraphNode | null = null;
  /** @internal Which output of `node` this is. */
  outputIndex = 0;
  /** @internal Survives the backward that consumes its graph. */
  retained = false;
  /** Gradient of the last backward passes, for leaves and retained tensors. */
  grad: Tensor | null = null;
  #requiresGrad = false;
  #fate: Fate = 'alive';

  /** @internal Tensors are made by functions such as `tensor` and `zeros`. */
  constructor(
    handle: number,
    dtype: DType,
    shape: Shape,
    device: Device,
    view?: { strides: Shape; offset: number; storage: Storage },
  ) {
    this.handle = handle;
    this.dtype = dtype;
    this.shape = shape;
    this.device = device;
    this.strides = view ? view.strides : rowMajor(shape);
    this.offset = view ? view.offset : 0;
    this.isView = view !== undefined;
    this.storage = view ? view.storage : { version: 0 };
    register(this);
    young.push(this);
    youngBytes += this.byteLength;
    if (young.length >= kYoungTensors || youngBytes >= kYoungBytes) trackYoung();
  }

  get rank(): number {
    return this.shape.length;
  }
  /** Number of elements. */
  get size(): number {
    let n = 1;
    for (const d of this.shape) n *= d;
    return n;
  }
  /** Bytes of the elements. */
  get byteLength(): number {
    return this.size * dtypeSize[this.dtype];
  }
  get isDisposed(): boolean {
    return this.handle < 0;
  }
  /** Whether backward computes a gradient for it: set on leaves, inherited by what is computed from them. */
  get requiresGrad(): boolean {
    return this.#requiresGrad || this.node !== null;
  }
  /** Whether it was made by the user rather than computed by a recorded operator. */
  get isLeaf(): boolean {
    return this.node === null;
  }
  /** Whether the elements lie in row-major order without gaps. */
  get isContiguous(): boolean {
    let expected = 1;
    for (let i = this.rank - 1; i >= 0; i--) {
      const d = this.shape[i] as number;
      if (d !== 1 && this.strides[i] !== expected) return false;
      expected *= d;
    }
    return true;
  }

  /** Length of an axis; negative axes count from the end. */
  dim(axis: number): number {
    const d = this.shape[axis < 0 ? axis + this.rank : axis];
    if (d === undefined) {
      throw new ArgumentError(
        'ERR_VALUE',
        'dim',
        'axis',
        String(axis),
        `Use an axis from ${-this.rank} to ${this.rank - 1}`,
      );
    }
    return d;
  }

  /**
   * Marks a leaf as something to compute gradients for.
   * @throws ArgumentError for integer tensors and for results of recorded operators
   */
  requireGrad(value = true): this {
    if (value && (this.dtype === 'i32' || this.dtype === 'u8')) {
      throw new ArgumentError(
        'ERR_DTYPE',
        'requireGrad',
        'this',
        this.toString(),
        'Gradients exist for floating tensors only',
      );
    }
    if (this.node) {
      throw new ArgumentError(
        'ERR_VALUE',
        'requireGrad',
        'this',
        'the result of a recorded operator',
        'Call it on a leaf, or on detach()',
      );
    }
    this.#requiresGrad = value;
    return this;
  }

  /** Keeps this intermediate result, and its gradient, through the backward that consumes its graph. */
  retain(): this {
    this.retained = true;
    return this;
  }

  /** @internal */
  get fate(): string {
    return fates[this.#fate][0];
  }
  /** @internal */
  get fateRemedy(): string {
    return fates[this.#fate][1];
  }

  /** @internal The handle, or a DisposedError that says what released it. */
  live(operator: string): number {
    if (this.handle < 0) {
      throw new DisposedError(`${operator}: the tensor ${this.fate}`, {
        operator,
        remedy: this.fateRemedy,
      });
    }
    return this.handle;
  }

  /** @internal Releases the memory and remembers why. */
  release(fate: Fate): void {
    if (this.handle < 0) return;
    addon.release(this.handle);
    this.handle = -1;
    this.#fate = fate;
  }

  /** Releases the memory now. Calling it again does nothing; using the tensor afterwards throws. */
  dispose(): void {
    this.release('dispose');
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal A view of the same memory, outside the graph. */
  viewAs(shape: Shape, strides: Shape, offset: number): Tensor {
    packed[0] = this.live('view');
    packed[1] = offset;
    packed[2] = shape.length;
    for (let i = 0; i < shape.length; i++) {
      packed[3 + i] = shape[i] as number;
      packed[3 + shape.length + i] = strides[i] as number;
    }
    if (addon.view() !== 0) throwLast('view');
    return new Tensor(packed[0], this.dtype, shape, this.device, {
      strides,
      offset,
      storage: this.storage,
    });
  }

  /** The same values outside the graph, sharing memory. */
  detach(): Tensor {
    return this.viewAs(this.shape, this.strides, this.offset);
  }

  /**
   * Overwrites the elements with host data, in stream order; copied before the call returns.
   * @param data as many bytes as the tensor has
   * @throws ArgumentError for another number of bytes, and for a view that is not contiguous
   */
  write(data: ArrayBuffer | ArrayBufferView): this {
    const handle = this.live('write');
    if (addon.write(handle, hostBytes('write', data), this.device.stream.id) !== 0)
      throwLast('write');
    this.storage.version++;
    return this;
  }

  toString(): string {
    return `${this.dtype}[${this.shape.join(', ')}]`;
  }

  /** @internal Reads a contiguous tensor; `data()` in ./read takes care of views. */
  async readContiguous(): Promise<TensorData> {
    const handle = this.live('data');
    const target = hostBuffer('data', this.byteLength);
    await settled('data', (id) => addon.read(handle, target, this.device.stream.id, id));
    return typedArrayOf(this.dtype, target);
  }

  /** @internal */
  readContiguousSync(): TensorData {
    const handle = this.live('dataSync');
    const target = hostBuffer('dataSync', this.byteLength);
    if (addon.readSync(handle, target) !== 0) throwLast('dataSync');
    return typedArrayOf(this.dtype, target);
  }
}

/**
 * @internal Memory of JavaScript's own for `bytes`.
 * @throws OutOfMemoryError when it cannot be had
 */
export function hostBuffer(operator: string, bytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(bytes);
  } catch (cause) {
    throw new OutOfMemoryError(`${operator}: out of memory asking for ${bytes} bytes`, {
      operator,
      value: `${bytes} bytes`,
      remedy: 'JavaScript cannot hold as much in one array: read it in slices',
      cause,
    });
  }
}

/**
 * @internal Host data as native code reads it: an `ArrayBuffer`, or a typed array over one.
 * @throws ArgumentError for anything but buffers and views of them
 */
export function hostBytes(operator: string, data: unknown): ArrayBuffer | Uint8Array {
  if (types.isArrayBuffer(data)) return data;
  if (types.isSharedArrayBuffer(data)) return new Uint8Array(data).slice();
  if (!ArrayBuffer.isView(data)) {
    const what = typeof data === 'object' && data !== null ? 'an object' : String(data);
    const remedy = 'Pass a typed array or an ArrayBuffer';
    throw new ArgumentError('ERR_VALUE', operator, 'data', what, remedy);
  }
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return types.isSharedArrayBuffer(data.buffer) ? bytes.slice() : bytes;
}

/** Row-major element strides of a shape. */
export function rowMajor(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i] as number;
  }
  return strides;
}

/** Gives native code the objects of new tensors, so that unreachable ones are released even inside a synchronous loop. */
function trackYoung(): void {
  for (const tensor of young) {
    if (tensor.handle >= 0) addon.track(tensor.handle, tensor);
  }
  young.length = 0;
  youngBytes = 0;
}
