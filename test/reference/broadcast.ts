/** NumPy's broadcasting in float64. */

export interface Array64 {
  data: ArrayLike<number>;
  shape: readonly number[];
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((n, d) => n * d, 1);
}

/** Multi-index of element `i`, row-major. */
export function indexOf(i: number, shape: readonly number[]): number[] {
  const at = new Array<number>(shape.length);
  let rest = i;
  for (let k = shape.length - 1; k >= 0; k--) {
    at[k] = rest % (shape[k] as number);
    rest = Math.floor(rest / (shape[k] as number));
  }
  return at;
}

/** Row-major place of a multi-index. */
export function placeOf(at: readonly number[], shape: readonly number[]): number {
  return shape.reduce((place, d, k) => place * d + (at[k] as number), 0);
}

export function broadcastShape(shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, i) =>
    shapes.reduce((d, s) => {
      const own = s[i - (rank - s.length)] ?? 1;
      return own === 1 ? d : own;
    }, 1),
  );
}

/** f of corresponding elements. */
export function elementwise(f: (...x: number[]) => number, ...inputs: Array64[]): Float64Array {
  const shape = broadcastShape(inputs.map((x) => x.shape));
  return Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
    const at = indexOf(i, shape);
    return f(
      ...inputs.map((x) => {
        const own = at
          .slice(shape.length - x.shape.length)
          .map((k, axis) => (x.shape[axis] === 1 ? 0 : k));
        return x.data[placeOf(own, x.shape)] as number;
      }),
    );
  });
}
