/** Comparing tensors with float64 truths. */
import {
  bf16ToF32,
  type DType,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  type Tensor,
  tensor,
} from 'longspan';

export type FloatType = 'f64' | 'f32' | 'bf16' | 'f16';

/** Spacing of numbers near 1. */
export const epsilon: Readonly<Record<FloatType, number>> = {
  f64: 2 ** -52,
  f32: 2 ** -23,
  bf16: 2 ** -7,
  f16: 2 ** -10,
};

/** The elements of a tensor of any dtype as float64, in row-major order. */
export function values(t: Tensor): Float64Array {
  if (t.dtype === 'f16' || t.dtype === 'bf16') {
    const raw = t.dataSync();
    if (!(raw instanceof Uint16Array)) return Float64Array.from(raw); // Float16Array
    return Float64Array.from(t.dtype === 'f16' ? f16ToF32(raw) : bf16ToF32(raw));
  }
  return Float64Array.from(t.dataSync());
}

/** Values rounded to a dtype, as float64. */
export function rounded(x: ArrayLike<number>, dtype: FloatType): Float64Array {
  if (dtype === 'f64') return Float64Array.from(x);
  const single = Float32Array.from(x);
  if (dtype === 'f32') return Float64Array.from(single);
  return Float64Array.from(
    dtype === 'f16' ? f16ToF32(f32ToF16(single)) : bf16ToF32(f32ToBf16(single)),
  );
}

/** A tensor of `dtype` holding float64 values. */
export function tensorOf(x: ArrayLike<number>, shape: readonly number[], dtype: DType): Tensor {
  return tensor(Float64Array.from(x), { shape, dtype });
}

interface Worst {
  index: number;
  error: number;
}

/** Where two arrays differ most; equal infinities and NaN on both sides agree. */
export function worst(actual: ArrayLike<number>, expected: ArrayLike<number>): Worst {
  const found: Worst = { index: -1, error: 0 };
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] as number, expected[i] as number];
    if (Object.is(a, e) || a === e) continue;
    const difference = Math.abs(a - e);
    const error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (error > found.error) Object.assign(found, { index: i, error });
  }
  return found;
}

/** Largest finite magnitude. */
function magnitude(x: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < x.length; i++) {
    const m = Math.abs(x[i] as number);
    if (m > most && m < Number.POSITIVE_INFINITY) most = m;
  }
  return most;
}

function position(index: number, shape: readonly number[] | undefined): string {
  if (!shape) return `[${index}]`;
  const at: number[] = [];
  let rest = index;
  for (let i = shape.length - 1; i >= 0; i--) {
    at.unshift(rest % (shape[i] as number));
    rest = Math.floor(rest / (shape[i] as number));
  }
  return `[${at.join(', ')}]`;
}

function plain(x: Tensor | ArrayLike<number>): ArrayLike<number> {
  return 'isTensor' in x ? values(x) : x;
}

/**
 * Requires |actual - expected| <= absolute + relative * |expected| for every element.
 *
 * @param what what is compared, for the failure text
 */
export function expectClose(
  actual: Tensor | ArrayLike<number>,
  expected: ArrayLike<number>,
  { absolute = 0, relative = 0 }: { absolute?: number; relative?: number },
  what = 'values',
): void {
  const got = plain(actual);
  const shape = 'isTensor' in actual ? actual.shape : undefined;
  if (got.length !== expected.length) {
    throw new Error(`${what}: ${got.length} elements, expected ${expected.length}`);
  }
  let count = 0;
  let at = -1;
  let excess = 0;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [got[i] as number, expected[i] as number];
    if (Object.is(a, e) || a === e) continue;
    const over = Math.abs(a - e) - (absolute + relative * Math.abs(e));
    if (over <= 0) continue;
    count++;
    if (Number.isNaN(over) || over > excess || at < 0) {
      at = i;
      excess = Number.isNaN(over) ? Number.POSITIVE_INFINITY : over;
    }
  }
  if (count > 0) {
    throw new Error(
      `${what}: ${count} of ${expected.length} elements differ, most at ${position(at, shape)}: ` +
        `${got[at]} instead of ${expected[at]} (absolute ${absolute}, relative ${relative})`,
    );
  }
}

/**
 * The rule for low precision: the largest error against the float64 truth is at most `factor` times
 * that of the naive formula in the same precision (2, for gradients 3), or half a unit in the last
 * place of the largest value where the naive formula happens to be exact.
 */
export function expectLowPrecision(
  actual: Tensor | ArrayLike<number>,
  exact: ArrayLike<number>,
  naive: ArrayLike<number>,
  { dtype, factor = 2, what = 'values' }: { dtype: FloatType; factor?: number; what?: string },
): void {
  const got = plain(actual);
  const shape = 'isTensor' in actual ? actual.shape : undefined;
  if (got.length !== exact.length) {
    throw new Error(`${what}: ${got.length} elements, expected ${exact.length}`);
  }
  const allowed = Math.max(
    factor * worst(naive, exact).error,
    (epsilon[dtype] / 2) * magnitude(exact),
  );
  const { index, error } = worst(got, exact);
  if (!(error <= allowed)) {
    throw new Error(
      `${what} in ${dtype}: error ${error} at ${position(index, shape)} (${got[index]} instead of ${exact[index]}); ` +
        `allowed ${allowed}: ${factor} times the naive formula's`,
    );
  }
}

/** One floating input of {@link checkAgainstTwin}. */
export interface Input {
  values: ArrayLike<number>;
  shape: readonly number[];
}

/**
 * Runs an operator in every floating dtype beside its float64 twin. f64 must agree closely, f32 to
 * `f32Tolerance` times the largest value, the 16-bit types by the rule of {@link expectLowPrecision} with
 * the twin on rounded inputs, its result rounded, as the naive formula.
 *
 * @param run the operator under test, on tensors of one dtype
 * @param twin its naive float64 form, on arrays
 */
export function checkAgainstTwin(
  run: (...inputs: Tensor[]) => Tensor,
  twin: (...inputs: Float64Array[]) => ArrayLike<number>,
  inputs: readonly Input[],
  {
    dtypes = ['f64', 'f32', 'bf16', 'f16'],
    f32Tolerance = 2e-6,
    factor = 2,
    what = 'values',
  }: {
    dtypes?: readonly FloatType[];
    f32Tolerance?: number;
    factor?: number;
    what?: string;
  } = {},
): void {
  const wide = inputs.map((x) => Float64Array.from(x.values));
  for (const dtype of dtypes) {
    const narrow = wide.map((x) => rounded(x, dtype));
    const tensors = narrow.map((x, i) => tensorOf(x, (inputs[i] as Input).shape, dtype));
    const result = run(...tensors);
    if (result.dtype !== dtype) throw new Error(`${what}: ${result} from ${dtype} inputs`);
    if (dtype === 'f64' || dtype === 'f32') {
      const expected = twin(...narrow);
      const scale = Math.max(magnitude(expected), Number.MIN_VALUE);
      const tolerance = dtype === 'f64' ? 1e-12 : f32Tolerance;
      expectClose(result, expected, { absolute: tolerance * scale }, `${what} in ${dtype}`);
    } else {
      const naive = rounded(twin(...narrow), dtype);
      expectLowPrecision(result, twin(...wide), naive, { dtype, factor, what });
    }
    result.dispose();
    for (const t of tensors) t.dispose();
  }
}
