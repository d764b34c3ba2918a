/** What a mechanism's adapter is given and what it gives back. */
import { type Device, gradients, type Tensor } from 'longspan';
import type { Golden, GoldenTensor, Precision } from '../goldens.js';
import { rounded, tensorOf } from '../support/compare.js';

/** A case, or one of its tensors, that the project does not offer. */
export interface NotOffered {
  readonly notOffered: string;
}

/** @param reason why, as it is printed */
export function notOffered(reason: string): NotOffered {
  return { notOffered: reason };
}

/** A tensor of which some elements follow another convention than the case's. */
export interface Partly {
  readonly values: Tensor;
  /** Whether the element at this place in row-major order is offered. */
  readonly offers: (element: number) => boolean;
  /** Why the others are not. */
  readonly otherwise: string;
}

export type Computed = Record<string, Tensor | ArrayLike<number> | Partly | NotOffered>;

/** Computes what a case expects, through the public functions of the package. */
export interface Adapter {
  readonly mechanism: string;
  /**
   * Whether one operator computes it all: then bf16 and f16 are judged by the naive formula's error
   * where a manifest has no tolerance for them. In networks rounding adds up from layer to layer.
   */
  readonly single?: boolean;
  /**
   * Outputs and gradients by their names in the manifest. What the manifest expects and this leaves
   * out makes the case fail; more than it expects does no harm.
   */
  run(inputs: CaseInputs): Computed | NotOffered | Promise<Computed | NotOffered>;
}

/** A case's inputs, in the precision and on the device that the run is for. */
export class CaseInputs {
  constructor(
    readonly golden: Golden,
    readonly dtype: Precision,
    readonly device: Device,
    /** The precision that floating values are rounded to first. */
    readonly roundedTo: Precision = dtype,
  ) {}

  get id(): string {
    return this.golden.manifest.id;
  }

  params<T>(): T {
    return this.golden.manifest.params as T;
  }

  has(name: string): boolean {
    return name in this.golden.manifest.tensors;
  }

  /** The names of the case's tensors that start with `prefix`. */
  names(prefix: string): string[] {
    return Object.keys(this.golden.manifest.tensors).filter((name) => name.startsWith(prefix));
  }

  /** A tensor as it was stored, in float64. */
  host(name: string): GoldenTensor {
    return this.golden.tensor(name);
  }

  /** A tensor on the device: floats in the working precision, integers as i32, masks as u8. */
  tensor(name: string): Tensor {
    const { dtype, shape, data } = this.host(name);
    const integer = dtype === 'I64' || dtype === 'I32' ? 'i32' : undefined;
    const mask = dtype === 'BOOL' || dtype === 'U8' ? 'u8' : undefined;
    return this.make(data, shape, integer ?? mask ?? this.dtype);
  }

  /** As `tensor`, with gradients wanted. */
  leaf(name: string): Tensor {
    return this.tensor(name).requireGrad();
  }

  /** Host values on the device, by default in the working precision. */
  make(
    data: ArrayLike<number>,
    shape: readonly number[],
    dtype: Precision | 'i32' | 'u8' = this.dtype,
  ): Tensor {
    const floating = dtype !== 'i32' && dtype !== 'u8';
    const exact = floating ? rounded(data, this.roundedTo) : data;
    return tensorOf(exact, shape, dtype).to(this.device);
  }
}

/**
 * Gradients of the sum of every output times its upstream gradient (in the output's dtype: losses are
 * f32 in 16-bit networks), under the names they have as the
 * keys of `leaves`.
 */
export function gradientsOf(
  outputs: readonly (readonly [output: Tensor, upstream: Tensor])[],
  leaves: Readonly<Record<string, Tensor>>,
): Record<string, Tensor> {
  const found = gradients(
    outputs.map(([output]) => output),
    Object.values(leaves),
    { gradients: outputs.map(([y, up]) => up.to(y.dtype)), retainGraph: true },
  );
  const named = Object.keys(leaves).map((name, i) => [name, found[i]] as const);
  return Object.fromEntries(named.filter((entry): entry is [string, Tensor] => entry[1] !== null));
}
