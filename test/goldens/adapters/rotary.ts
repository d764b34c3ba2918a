import { rotary } from 'longspan';
import { type Adapter, gradientsOf } from '../adapter.js';

interface Params {
  rotary_dim: number;
  first_position: number;
  theta: number;
}

/** Both pairings, and the Perceiver AR frequencies, which are given as such. */
export const rotaries: Adapter = {
  mechanism: 'rotary_embedding',
  single: true,
  run(inputs) {
    const { rotary_dim: dim, first_position: offset, theta: base } = inputs.params<Params>();
    const x = inputs.leaf('in.x');
    const up = inputs.tensor('up.y_interleaved');
    const common = { axis: 1, dim, offset };
    const interleaved = rotary(x, { ...common, base, interleaved: true });
    const half = rotary(x, { ...common, base });

    // The angles themselves: what the pair (1, 0) turns into.
    const positions = x.dim(1);
    const unit = Array.from({ length: positions * dim }, (_, i) => (i % dim < dim / 2 ? 1 : 0));
    const angles = rotary(inputs.make(unit, [positions, dim]), { offset, base });

    const steps = dim / 2;
    const frequencies = Array.from(
      { length: steps },
      (_, i) => 8192 ** ((-2 / dim) * ((i * steps) / (steps - 1))),
    );
    return {
      'out.y_interleaved': interleaved,
      'out.y_half': half,
      'out.cos': angles.slice(1, 0, steps),
      'out.sin': angles.slice(1, steps),
      'out.y_google_perceiver_ar': rotary(x, {
        ...common,
        interleaved: true,
        // A GPU takes no f64.
        frequencies: inputs.make(
          frequencies,
          [steps],
          inputs.device.type === 'cpu' ? 'f64' : 'f32',
        ),
      }),
      ...gradientsOf([[interleaved, up]], { 'grad.x': x }),
      ...gradientsOf([[half, up]], { 'grad.x_half': x }),
    };
  },
};
