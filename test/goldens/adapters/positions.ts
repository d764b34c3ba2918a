import { noamSchedule, sinusoidalPositions } from 'longspan';
import type { Adapter } from '../adapter.js';

interface Params {
  d: number;
  max_len: number;
  /** (model width, factor, warm-up) of each schedule. */
  opts: [number, number, number][];
}

/** Position table and learning rates; both are computed on the host, the table in either precision. */
export const positions: Adapter = {
  mechanism: 'sinusoidal_positions_noam_schedule',
  run(inputs) {
    const { d, max_len, opts } = inputs.params<Params>();
    const table = inputs.dtype === 'f64' ? new Float64Array(max_len * d) : undefined;
    const steps = inputs.host('in.steps').data;
    return {
      'out.pe': sinusoidalPositions<Float32Array | Float64Array>(max_len, d, {}, table),
      'out.lr': opts.flatMap(([modelDim, factor, warmup]) =>
        Array.from(steps, noamSchedule({ modelDim, factor, warmup })),
      ),
    };
  },
};
