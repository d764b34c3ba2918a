import { fromBytes } from '../../core/create.js';
import { device as deviceOf } from '../../core/device.js';
import { ArgumentError } from '../../core/errors.js';
import { checkOptions } from '../../core/options.js';
import { copy } from '../../core/primitives.js';
import type { Tensor } from '../../core/tensor.js';
import { slice } from '../../core/views.js';
import { add, embedding, normal } from '../../dense/index.js';
import { type SinusoidalOptions, sinusoidalPositions } from '../functional/sinusoidal.js';
import { Module } from '../module.js';
import { buffer, type Parameter, parameter } from '../parameter.js';
import { checkSizes, type LayerOptions, layerOptionNames, layerOptions } from './options.js';

/** Positions as vectors added to the inputs: a table of [maxLength, dModel]. */
export abstract class TablePositions extends Module {
  protected abstract readonly table: Tensor;

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
    const n = x.dim(1);
    if (n > this.maxLength) {
      throw new ArgumentError(
        'ERR_SHAPE',
        this.constructor.name,
        'x',
        x.toString(),
        `Give at most maxLength, ${this.maxLength}, positions on axis 1`,
      );
    }
    return add(x, positions ? embedding(this.table, positions) : slice(this.table, 0, 0, n));
  }

  protected override describe(): string {
    return `${this.maxLength}, ${this.dModel}`;
  }
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

  protected override get table(): Tensor {
    return this.weight;
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
      { ...(layout && { layout }), ...(base !== undefined && { base }) },
      new Float64Array(maxLength * dModel),
    );
    const exact = fromBytes(values, [maxLength, dModel], 'f64', deviceOf(options.device));
    this.table = buffer(copy(exact, dtype), { persistent: false });
    exact.dispose();
  }
}
