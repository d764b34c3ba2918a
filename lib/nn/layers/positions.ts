import { fromBytes } from '../../core/create.js';
import { asTensor, show } from '../../core/declare.js';
import { device as deviceOf } from '../../core/device.js';
import { ArgumentError } from '../../core/errors.js';
import { checkList, checkOptions } from '../../core/options.js';
import { copy } from '../../core/primitives.js';
import type { Tensor } from '../../core/tensor.js';
import { slice } from '../../core/views.js';
import { add, concat, embedding, indexSelect, normal } from '../../dense/index.js';
import { type SinusoidalOptions, sinusoidalPositions } from '../functional/sinusoidal.js';
import { Module } from '../module.js';
import { buffer, type Parameter, parameter } from '../parameter.js';
import { checkSizes, type LayerOptions, layerOptionNames, layerOptions } from './options.js';

/** Positions as vectors added to the inputs, for up to `maxLength` of them. */
export abstract class TablePositions extends Module {
  /** The vectors of positions 0 to n - 1, [n, dModel], or of those given, [B, N, dModel]. */
  protected abstract vectors(n: number, positions: Tensor | undefined): Tensor;

  constructor(
    readonly maxLength: number,
    readonly dModel: number,
  ) {
    super();
    checkSizes(new.target.name, { maxLength, dModel });
  }

  /**
   * @param x [B, N, dModel]
   * @param positions i32 [B, N]. Default 0 to N - 1 in every row.
   * @throws ArgumentError when N exceeds `maxLength`
   */
  forward(x: Tensor, positions?: Tensor): Tensor {
    const n = asTensor(this.constructor.name, 'x', x).dim(1);
    if (n > this.maxLength) {
      throw new ArgumentError(
        'ERR_SHAPE',
        this.constructor.name,
        'x',
        x.toString(),
        `Give at most maxLength, ${this.maxLength}, positions on axis 1`,
      );
    }
    return add(x, this.vectors(n, positions));
  }

  protected override describe(): string {
    return `${this.maxLength}, ${this.dModel}`;
  }
}

function rowsOf(table: Tensor, n: number, positions: Tensor | undefined): Tensor {
  return positions ? embedding(table, positions) : slice(table, 0, 0, n);
}

/** A trained table of positions. `weight` is [maxLength, dModel]. */
export class LearnedPositions extends TablePositions {
  weight: Parameter;

  constructor(maxLength: number, dModel: number, options: LayerOptions & { std?: number } = {}) {
    super(maxLength, dModel);
    checkOptions('LearnedPositions', options, ['std', ...layerOptionNames]);
    const { std = 0.02 } = options;
    this.weight = parameter(normal([maxLength, dModel], { ...layerOptions(options), std }));
  }

  protected override vectors(n: number, positions: Tensor | undefined): Tensor {
    return rowsOf(this.weight, n, positions);
  }
}

/** The fixed table of Vaswani et al. 2017, see `sinusoidalPositions`. It is not part of the state dict. */
export class SinusoidalPositions extends TablePositions {
  protected table: Tensor;

  constructor(maxLength: number, dModel: number, options: LayerOptions & SinusoidalOptions = {}) {
    super(maxLength, dModel);
    checkOptions('SinusoidalPositions', options, ['layout', 'base', ...layerOptionNames]);
    const { layout, base, dtype = 'f32' } = options;
    const values = sinusoidalPositions(
      maxLength,
      dModel,
      { ...(layout !== undefined && { layout }), ...(base !== undefined && { base }) },
      new Float64Array(maxLength * dModel),
    );
    const exact = fromBytes(values, [maxLength, dModel], 'f64', deviceOf(options.device));
    this.table = buffer(copy(exact, dtype), { persistent: false });
    exact.dispose();
  }

  protected override vectors(n: number, positions: Tensor | undefined): Tensor {
    return rowsOf(this.table, n, positions);
  }
}

/** Options of {@link AxialPositions}. */
export interface AxialPositionsOptions extends LayerOptions {
  /** Channels of each axis, which add up to the model's width. Default: equal parts. */
  dims?: readonly number[];
  /** Deviation of the initial values. Default 0.02. */
  std?: number;
}

/**
 * Trained positions on a grid (Kitaev et al. 2020): position p of a grid [n1, n2] is row floor(p / n2) of
 * one table beside row p mod n2 of another, and so on for further axes. A grid of 512 x 128 serves
 * 65536 positions with 640 rows. `weights.0` is [n1, d1], `weights.1` is [n2, d2], and so on.
 *
 * @example
 * const positions = new AxialPositions([16, 32], 64, { dims: [16, 48] });
 * positions.forward(zeros([1, 500, 64])).shape; // [1, 500, 64]
 */
export class AxialPositions extends TablePositions {
  readonly weights: Parameter[];
  readonly dims: readonly number[];
  /** Row of each table, by position. */
  protected readonly rows: Tensor[];

  /** @param shape of the grid, two axes or more */
  constructor(
    readonly shape: readonly number[],
    dModel: number,
    options: AxialPositionsOptions = {},
  ) {
    checkList('AxialPositions', 'shape', shape, 'sides');
    for (const side of shape) checkSizes('AxialPositions', { shape: side });
    super(
      shape.reduce((n, side) => n * side, 1),
      dModel,
    );
    checkOptions('AxialPositions', options, ['dims', 'std', ...layerOptionNames]);
    const equal = shape.map(() => dModel / shape.length);
    const { dims = equal, std = 0.02, device } = options;
    checkList('AxialPositions', 'dims', dims, 'widths');
    checkGrid(shape, dims, dModel);
    this.dims = [...dims];
    this.weights = shape.map((side, axis) =>
      parameter(normal([side, dims[axis] as number], { ...layerOptions(options), std })),
    );
    let stride = this.maxLength;
    this.rows = shape.map((side) => {
      stride /= side;
      const rows = Int32Array.from(
        { length: this.maxLength },
        (_, p) => Math.floor(p / stride) % side,
      );
      const table = fromBytes(rows, [rows.length], 'i32', deviceOf(device));
      return buffer(table, { persistent: false });
    });
  }

  protected override vectors(n: number, positions: Tensor | undefined): Tensor {
    const parts = this.weights.map((weight, axis) => {
      const rows = this.rows[axis] as Tensor;
      return embedding(weight, positions ? indexSelect(rows, 0, positions) : slice(rows, 0, 0, n));
    });
    return concat(parts, -1);
  }

  protected override describe(): string {
    return `${this.shape.join(' x ')}, dims: ${this.dims.join(' + ')}`;
  }
}

function checkGrid(shape: readonly number[], dims: readonly number[], dModel: number): void {
  if (shape.length < 2) {
    const remedy = 'Give two axes or more, or use LearnedPositions';
    throw new ArgumentError('ERR_OPTION', 'AxialPositions', 'shape', show(shape), remedy);
  }
  const whole = dims.every((d) => Number.isSafeInteger(d) && d >= 1);
  const sum = dims.reduce((n, d) => n + d, 0);
  if (dims.length === shape.length && whole && sum === dModel) return;
  const remedy = `Give ${shape.length} integers >= 1 whose sum is dModel, ${dModel}`;
  throw new ArgumentError('ERR_OPTION', 'AxialPositions', 'dims', show(dims), remedy);
}
