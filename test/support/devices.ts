/** Tests that run on every device the addon offers, and comparisons between devices. */
import { type Device, device, gradients, type Tensor } from 'longspan';
import {
  expectClose,
  expectLowPrecision,
  type FloatType,
  type Input,
  rounded,
  tensorOf,
  values,
} from './compare.js';

const usable = (name: string): boolean => {
  try {
    device(name);
    return true;
  } catch {
    return false;
  }
};

/** Whether there is a GPU, real or emulated. */
export const hasCuda = usable('cuda');

/**
 * `cpu`, and `cuda` where there is one; for `describe.each`.
 *
 * @example
 * describe.each(testDevices())('on %s', (name) => { ... });
 */
export function testDevices(): ('cpu' | 'cuda')[] {
  return hasCuda ? ['cpu', 'cuda'] : ['cpu'];
}

/** `describe` where there is a GPU; skipped on an addon without one, which a sanitizer's build is. */
export const describeCuda: typeof describe = hasCuda ? describe : describe.skip;

type Results = Tensor | readonly Tensor[];
const listOf = (r: Results): readonly Tensor[] => ('isTensor' in r ? [r as Tensor] : r) as Tensor[];

/** Runs `fn` on copies of the tensors on `on`; the results as float64. */
function resultsOn(
  on: Device,
  fn: (...inputs: Tensor[]) => Results,
  inputs: readonly Tensor[],
): Float64Array[] {
  const moved = inputs.map((t) => t.to(on));
  const results = listOf(fn(...moved));
  for (const t of results) {
    if (t.device !== on) throw new Error(`a result lies on ${t.device}, not on ${on}`);
  }
  const data = results.map(values);
  for (const t of [...results, ...moved.filter((m, i) => m !== inputs[i])]) t.dispose();
  return data;
}

/**
 * Requires that the CPU and the GPU give the same bits: random numbers, copies, integers.
 *
 * @param fn one call on `on`, where its inputs lie
 */
export function expectSameOnCuda(
  fn: (on: Device, ...inputs: Tensor[]) => Results,
  inputs: readonly Tensor[] = [],
): void {
  const [expected, actual] = [device('cpu'), device('cuda')].map((on) =>
    resultsOn(on, (...moved) => fn(on, ...moved), inputs),
  ) as [Float64Array[], Float64Array[]];
  actual.forEach((data, i) => {
    expectClose(data, expected[i] as Float64Array, {}, `result ${i}`);
  });
}

/**
 * The gradients of `fn` as a call to compare: of its inputs the first `leaves` are differentiated, as
 * many as it has results after them are the results' gradients, the rest is passed on.
 */
export function gradientsOf(
  fn: (...inputs: Tensor[]) => Results,
  leaves: number,
  results = 1,
): (...inputs: Tensor[]) => Tensor[] {
  return (...inputs) => {
    const own = inputs.slice(0, leaves).map((t) => t.detach().requireGrad());
    const upstream = inputs.slice(leaves, leaves + results);
    const outputs = listOf(fn(...own, ...inputs.slice(leaves + results)));
    return gradients(outputs, own, { gradients: upstream }) as Tensor[];
  };
}

export interface DeviceComparison {
  dtypes?: readonly Exclude<FloatType, 'f64'>[];
  /** Allowed error in f32, relative to the largest value. Default 2e-6. */
  f32Tolerance?: number;
  /** Of the naive formula's error that the GPU may make in 16 bits; 3 for gradients. Default 2. */
  factor?: number;
  /**
   * What low precision is measured by: the f64 result rounded (default), or the CPU's own result in
   * that dtype, where backward starts from something that forward has rounded.
   */
  naive?: 'rounded' | 'cpu';
  /** Tensors passed on after the floating inputs as they are: indices, masks. */
  rest?: readonly Tensor[];
}

/**
 * Runs one call on the GPU in f32, f16 and bf16 and holds it against the same call on the CPU in f64,
 * by the rule for low precision: its error is at most `factor` times that of the CPU's f64 result on
 * rounded inputs, rounded.
 *
 * @param fn one call, on tensors of one dtype; views of its inputs are made inside
 */
export function compareDevices(
  fn: (...inputs: Tensor[]) => Results,
  inputs: readonly Input[],
  {
    dtypes = ['f32', 'f16', 'bf16'],
    f32Tolerance = 2e-6,
    factor = 2,
    naive: yardstick = 'rounded',
    rest = [],
  }: DeviceComparison = {},
): void {
  const onCpu = (data: readonly Float64Array[], dtype: FloatType = 'f64'): Float64Array[] => {
    const tensors = data.map((x, i) => tensorOf(x, (inputs[i] as Input).shape, dtype));
    const results = resultsOn(device('cpu'), fn, [...tensors, ...rest]);
    for (const t of tensors) t.dispose();
    return results;
  };
  const wide = inputs.map((x) => Float64Array.from(x.values));
  const exact = onCpu(wide);
  for (const dtype of dtypes) {
    const narrow = wide.map((x) => rounded(x, dtype));
    const expected = onCpu(narrow);
    const peers = yardstick === 'cpu' ? onCpu(narrow, dtype) : [];
    const tensors = narrow.map((x, i) => tensorOf(x, (inputs[i] as Input).shape, dtype));
    const actual = resultsOn(device('cuda'), fn, [...tensors, ...rest]);
    for (const t of tensors) t.dispose();
    actual.forEach((data, i) => {
      const truth = expected[i] as Float64Array;
      const what = `result ${i} on cuda`;
      if (dtype === 'f32') {
        const finite = truth.map(Math.abs).filter((m) => m < Number.POSITIVE_INFINITY);
        const most = finite.reduce((m, x) => Math.max(m, x), Number.MIN_VALUE);
        expectClose(data, truth, { absolute: f32Tolerance * most }, what);
      } else {
        const naive = peers[i] ?? rounded(truth, dtype);
        expectLowPrecision(data, exact[i] as Float64Array, naive, { dtype, factor, what });
      }
    });
  }
}
