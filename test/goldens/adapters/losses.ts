import { type CrossEntropyOptions, crossEntropy, logSoftmax, softmax, type Tensor } from 'longspan';
import { values } from '../../support/compare.js';
import { type Adapter, gradientsOf } from '../adapter.js';

/** Softmax, its logarithm, and cross entropy with PyTorch's reductions, ignored index and smoothing. */
const softmaxCrossEntropy: Adapter = {
  mechanism: 'softmax_cross_entropy',
  single: true,
  run(inputs) {
    const logits = inputs.leaf('in.logits');
    const up = inputs.tensor('in.up_sm');
    const [target, targetIgnore] = [inputs.tensor('in.target'), inputs.tensor('in.target_ignore')];
    const [p, logP] = [softmax(logits), logSoftmax(logits)];
    const computed = {
      'out.softmax': p,
      'out.log_softmax': logP,
      'out.ce_none': crossEntropy(logits, target, { reduction: 'none' }),
      ...gradientsOf([[p, up]], { 'grad.logits_softmax': logits }),
      ...gradientsOf([[logP, up]], { 'grad.logits_log_softmax': logits }),
    };
    const labelSmoothing = 0.1;
    const losses: Record<string, CrossEntropyOptions> = {
      ce_mean: {},
      ce_sum: { reduction: 'sum' },
      ce_mean_ignore: {},
      ce_smooth_mean: { labelSmoothing },
      ce_smooth_mean_ignore: { labelSmoothing },
    };
    for (const [name, options] of Object.entries(losses)) {
      const loss = crossEntropy(logits, name.endsWith('ignore') ? targetIgnore : target, options);
      const one = inputs.make([1], [], loss.dtype as 'f32' | 'f64');
      Object.assign(computed, {
        [`out.${name}`]: loss,
        ...gradientsOf([[loss, one]], { [`grad.logits_${name}`]: logits }),
      });
    }
    return computed;
  },
};

/** Smoothing as a divergence, with the padding class left out. */
const labelSmoothing: Adapter = {
  mechanism: 'label_smoothed_loss_annotated_transformer',
  run(inputs) {
    const { padding_idx, smoothing } = inputs.params<{ padding_idx: number; smoothing: number }>();
    const logits = inputs.leaf('in.logits');
    const options = {
      labelSmoothing: smoothing,
      smoothingOver: 'others',
      ignoreIndex: padding_idx,
    } as const;
    const target = inputs.tensor('in.target');
    const loss = crossEntropy(logits, target, { ...options, reduction: 'sum' });
    const one = inputs.make([1], [], loss.dtype as 'f32' | 'f64');
    const found = gradientsOf([[loss, one]], { 'grad.logits': logits });
    // The gradient is softmax - q in the rows that count: it shows the wanted distribution q.
    const p = values(softmax(logits));
    const gradient = values(found['grad.logits'] as Tensor);
    const classes = logits.dim(-1);
    const targets = values(target);
    const wanted = p.map((x, i) =>
      targets[Math.floor(i / classes)] === padding_idx ? 0 : x - (gradient[i] as number),
    );
    return {
      'out.loss_sum': loss,
      'out.loss_per_token': crossEntropy(logits, target, options),
      'out.true_dist': wanted,
      ...found,
    };
  },
};

export const losses: readonly Adapter[] = [softmaxCrossEntropy, labelSmoothing];
