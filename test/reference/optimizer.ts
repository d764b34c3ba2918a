/** Optimizers in float64, one element at a time, from the papers. */

export interface AdamReferenceOptions {
  lr: number;
  betas?: readonly [number, number];
  eps?: number;
  weightDecay?: number;
  decoupled?: boolean;
  amsgrad?: boolean;
}

/** Parameters after each of the gradients, Adam or AdamW. */
export function adamReference(
  start: ArrayLike<number>,
  gradients: readonly ArrayLike<number>[],
  {
    lr,
    betas: [b1, b2] = [0.9, 0.999],
    eps = 1e-8,
    weightDecay = 0,
    decoupled = false,
    amsgrad = false,
  }: AdamReferenceOptions,
): Float64Array[] {
  const p = Float64Array.from(start);
  const [m, v, top] = [p.map(() => 0), p.map(() => 0), p.map(() => 0)];
  return gradients.map((gradient, index) => {
    const t = index + 1;
    for (let i = 0; i < p.length; i++) {
      let g = gradient[i] as number;
      let x = p[i] as number;
      if (decoupled) x -= lr * weightDecay * x;
      else g += weightDecay * x;
      m[i] = b1 * (m[i] as number) + (1 - b1) * g;
      v[i] = b2 * (v[i] as number) + (1 - b2) * g * g;
      top[i] = Math.max(top[i] as number, v[i] as number);
      const square = (amsgrad ? top[i] : v[i]) as number;
      const mean = (m[i] as number) / (1 - b1 ** t);
      p[i] = x - (lr * mean) / (Math.sqrt(square / (1 - b2 ** t)) + eps);
    }
    return p.slice();
  });
}

export interface SgdReferenceOptions {
  lr: number;
  momentum?: number;
  dampening?: number;
  weightDecay?: number;
  nesterov?: boolean;
}

/** Parameters after each of the gradients, SGD. */
export function sgdReference(
  start: ArrayLike<number>,
  gradients: readonly ArrayLike<number>[],
  { lr, momentum = 0, dampening = 0, weightDecay = 0, nesterov = false }: SgdReferenceOptions,
): Float64Array[] {
  const p = Float64Array.from(start);
  const b = p.map(() => 0);
  return gradients.map((gradient, index) => {
    for (let i = 0; i < p.length; i++) {
      const g = (gradient[i] as number) + weightDecay * (p[i] as number);
      b[i] = index === 0 ? g : momentum * (b[i] as number) + (1 - dampening) * g;
      const step =
        momentum === 0 ? g : nesterov ? g + momentum * (b[i] as number) : (b[i] as number);
      p[i] = (p[i] as number) - lr * step;
    }
    return p.slice();
  });
}
