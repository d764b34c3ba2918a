/**
 * The only file that touches the addon. Everything above speaks in handles (numbers), packed calls
 * and promises; see `docs/architecture.md` for the layout of a packed call.
 */
import {
  ArgumentError,
  DeviceLostError,
  DeviceUnavailableError,
  DisposedError,
  type LongspanError,
  OperatorError,
  OutOfMemoryError,
  UnsupportedError,
} from './core/errors.js';
import { loadAddon } from './native-loader.js';

/** A field of a native operator, as the addon describes it. */
export interface FieldDescription {
  kind: string;
  name: string;
  choices?: string[];
}

/** Counters of a device's memory, in bytes; `tensors` counts this environment's live tensors. */
export interface MemoryInfo {
  active: number;
  peak: number;
  cached: number;
  limit: number;
  liveBuffers: number;
  tensors: number;
}

interface Addon {
  start(
    onSettled: (id: number, code: number, field?: string, value?: string, remedy?: string) => void,
  ): Float64Array;
  call(operator: number): number;
  nameId(name: string): number;
  lastError(): [number, string, string, string];
  track(handle: number, object: object): void;
  release(handle: number): void;
  view(): number;
  create(data: ArrayBuffer | ArrayBufferView): number;
  write(handle: number, data: ArrayBuffer | ArrayBufferView, stream: number): number;
  read(handle: number, target: ArrayBuffer, stream: number, id: number): number;
  readSync(handle: number, target: ArrayBuffer): number;
  transfer(handle: number, stream: number, device: number): number;
  beginCapture(stream: number): number;
  endCapture(stream: number): number;
  replay(graph: number, stream: number): number;
  releaseGraph(graph: number): void;
  mark(stream: number, id: number): number;
  synchronizeSync(stream: number): number;
  startTimer(stream: number): object | null;
  stopTimer(timer: object, stream: number, target: ArrayBuffer, id: number): number;
  pending(stream: number): number;
  openStream(device: number): number;
  closeStream(stream: number): void;
  memory(device: number): MemoryInfo;
  memoryControl(device: number, what: 'limit' | 'resetPeak' | 'emptyCache', bytes?: number): void;
  setThreads(threads: number): number;
  peak(threads: number, seconds: number): [flops: number, bytes: number];
  sweep(): number;
  describe(): { name: string; fields: FieldDescription[] }[];
  info(): { threads: number; cpuLevel: string; cuda: string };
  cublasLt(): string;
}

export const addon = loadAddon() as Addon;

interface Waiter {
  operator: string;
  resolve(): void;
  reject(error: LongspanError): void;
}
const waiters = new Map<number, Waiter>();
let nextId = 1;

/** The packed call shared with native code; valid until the next native call. */
export const packed: Float64Array = addon.start((id, code, field, value, remedy) => {
  const waiter = waiters.get(id);
  waiters.delete(id);
  if (code === 0) waiter?.resolve();
  else waiter?.reject(errorOf(code, waiter.operator, field ?? '', value ?? '', remedy ?? ''));
});

const argumentCodes = [
  '',
  'ERR_DTYPE',
  'ERR_RANK',
  'ERR_SHAPE',
  'ERR_DEVICE',
  'ERR_VALUE',
] as const;

/** Turns a native status into the typed error of lib/core/errors. Codes are `enum class Code`'s. */
function errorOf(
  code: number,
  operator: string,
  field: string,
  value: string,
  remedy: string,
): LongspanError {
  switch (code) {
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
      return new ArgumentError(argumentCodes[code] as 'ERR_DTYPE', operator, field, value, remedy);
    case 6:
      return new DisposedError(`${operator}: '${field}' is ${value}`, {
        operator,
        argument: field,
        value,
        remedy,
      });
    case 7:
      return new OutOfMemoryError(`${field}: out of memory asking for ${value}`, {
        operator: field,
        value,
        remedy,
      });
    case 9:
      return new UnsupportedError(`${operator}: '${field}' is ${value}`, {
        operator,
        argument: field,
        value,
        remedy,
      });
    case 10:
      return new DeviceUnavailableError(`device '${field}' cannot be used: ${value}`, {
        value: field,
        remedy,
      });
    case 11:
      return new DeviceLostError(`${field || operator}: the GPU is lost: ${value}`, {
        operator: field || operator,
        value,
        remedy,
      });
    default:
      return new OperatorError(`${field || operator} failed: ${value}`, {
        operator: field || operator,
        value,
        remedy,
      });
  }
}

/** Throws the error behind a non-zero code of the last native call. */
export function throwLast(operator: string): never {
  const [code, field, value, remedy] = addon.lastError();
  throw errorOf(code, operator, field, value, remedy);
}

/** Runs `begin(id)` and resolves once native code settles that id. */
export function settled(operator: string, begin: (id: number) => number): Promise<void> {
  return new Promise((resolve, reject) => {
    const id = nextId++;
    waiters.set(id, { operator, resolve, reject });
    if (begin(id) !== 0) {
      waiters.delete(id);
      throwLast(operator);
    }
  });
}

const operatorIndex = new Map(addon.describe().map((operator, index) => [operator.name, index]));

/** The index a native operator is called by. */
export function indexOfOperator(name: string): number {
  const index = operatorIndex.get(name);
  if (index === undefined)
    throw new UnsupportedError(`the addon has no operator '${name}'`, {
      remedy: 'Rebuild the addon: npm run build:native',
    });
  return index;
}
