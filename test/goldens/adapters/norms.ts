import { layerNorm, rmsNorm, type Tensor } from 'longspan';
import { type Adapter, type CaseInputs, gradientsOf } from '../adapter.js';

/** One norm: what it makes of x, gain g and shift b. */
function norm(
  mechanism: string,
  apply: (x: Tensor, g: Tensor, b: Tensor | undefined, eps: number) => Tensor,
): Adapter {
  return {
    mechanism,
    single: true,
    run(inputs: CaseInputs) {
      const [x, g] = [inputs.leaf('in.x'), inputs.leaf('in.g')];
      const b = inputs.has('in.b') ? inputs.leaf('in.b') : undefined;
      const y = apply(x, g, b, inputs.params<{ eps: number }>().eps);
      const leaves = { 'grad.x': x, 'grad.g': g, ...(b && { 'grad.b': b }) };
      return { 'out.y': y, ...gradientsOf([[y, inputs.tensor('up.y')]], leaves) };
    },
  };
}

export const norms: readonly Adapter[] = [
  norm('layernorm', (x, g, b, eps) => layerNorm(x, g, b, { eps })),
  norm('layernorm_annotated_transformer_variant', (x, g, b, eps) =>
    layerNorm(x, g, b, { eps, unbiased: true }),
  ),
  norm('rmsnorm', (x, g, _, eps) => rmsNorm(x, g, { eps })),
];
