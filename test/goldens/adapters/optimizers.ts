import {
  Adam,
  AdamW,
  clipGradNorm,
  clipGradValue,
  noamSchedule,
  type Optimizer,
  SGD,
  type Tensor,
} from 'longspan';
import { values } from '../../support/compare.js';
import type { Adapter, CaseInputs, Computed } from '../adapter.js';

type Named = [string, Tensor][];

/** The manifest leaves most hyper-parameters out; these follow from its values. */
const optimizers: Record<string, (params: Named) => Optimizer> = {
  adam: (params) => new Adam(params, { lr: 0.01 }),
  adam_l2: (params) =>
    new Adam(params, { lr: 0.01, betas: [0.9, 0.98], eps: 1e-9, weightDecay: 0.05 }),
  adamw: (params) => new AdamW(params, { lr: 0.01, betas: [0.9, 0.95], weightDecay: 0.1 }),
  adamw_amsgrad: (params) =>
    new AdamW(params, { lr: 0.01, betas: [0.9, 0.95], weightDecay: 0.1, amsgrad: true }),
  sgd_nesterov: (params) =>
    new SGD(params, { lr: 0.01, momentum: 0.9, weightDecay: 0.01, nesterov: true }),
  adam_noam: (params) =>
    new Adam(params, {
      lr: noamSchedule({ modelDim: 64, factor: 1, warmup: 4 }),
      betas: [0.9, 0.98],
      eps: 1e-9,
    }),
};

/** Parameters after every step, and the moments after the last. */
const trajectories: Adapter = {
  mechanism: 'adam_adamw_sgd',
  run(inputs) {
    const { steps } = inputs.params<{ steps: number }>();
    const computed: Computed = {};
    for (const [name, make] of Object.entries(optimizers)) {
      const params: Named = ['0', '1'].map((i) => [i, inputs.leaf(`in.p${i}`)]);
      const optimizer = make(params);
      const after = params.map((): number[] => []);
      for (let step = 0; step < steps; step++) {
        params.forEach(([i, p]) => {
          const gradients = inputs.host(`in.g${i}`).data;
          p.grad = inputs.make(gradients.slice(step * p.size, (step + 1) * p.size), p.shape);
        });
        optimizer.step();
        params.forEach(([, p], i) => {
          (after[i] as number[]).push(...values(p));
        });
      }
      const state = optimizer.state();
      for (const [i] of params) {
        computed[`out.${name}_p${i}`] = after[Number(i)] as number[];
        const [m, v] = [state[`${i}.exp_avg`], state[`${i}.exp_avg_sq`]];
        if (m && v) Object.assign(computed, { [`out.${name}_m${i}`]: m, [`out.${name}_v${i}`]: v });
      }
    }
    return computed;
  },
};

const clips: Record<string, (params: readonly Tensor[]) => Tensor | undefined> = {
  l2_1: (params) => clipGradNorm(params, 1),
  l2_1000: (params) => clipGradNorm(params, 1000),
  linf_0p5: (params) => clipGradNorm(params, 0.5, { order: Number.POSITIVE_INFINITY }),
  value_0p3: (params) => {
    clipGradValue(params, 0.3);
    return undefined;
  },
};

const clipping: Adapter = {
  mechanism: 'gradient_clipping',
  run(inputs: CaseInputs) {
    const computed: Computed = {};
    for (const [name, clip] of Object.entries(clips)) {
      const params = inputs.names('in.g').map((g) => {
        const p = inputs.leaf(g);
        p.grad = inputs.tensor(g);
        return p;
      });
      const norm = clip(params);
      if (norm) computed[`out.${name}_norm`] = norm;
      params.forEach((p, i) => {
        computed[`out.${name}_g${i}`] = p.grad as Tensor;
      });
    }
    return computed;
  },
};

export const optimizing: readonly Adapter[] = [trajectories, clipping];
