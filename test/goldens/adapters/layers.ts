import {
  DecoderLayer,
  EncoderLayer,
  type MechanismContext,
  MultiHeadAttention,
  SoftmaxAttention,
  type Tensor,
} from 'longspan';
import type { Adapter, CaseInputs } from '../adapter.js';
import { computed, lengthsOf, loadWeights, weightLeaves } from '../modules.js';
import { identityValues } from './exact-attention.js';

interface LayerParams {
  d: number;
  heads: number;
  ff: number;
  norm_first: boolean;
  activation: 'relu' | 'gelu';
}

/** Softmax attention that also gives the probabilities of its last call. */
class Watched extends SoftmaxAttention {
  probabilities: Tensor | undefined;

  override forward(q: Tensor, k: Tensor, v: Tensor, context: MechanismContext = {}): Tensor {
    this.probabilities = super.forward(q, k, identityValues(k), context);
    return super.forward(q, k, v, context);
  }
}

export const multiHeadAttention: Adapter = {
  mechanism: 'multi_head_attention',
  run(inputs) {
    const { d, H } = inputs.params<{ d: number; H: number }>();
    const mechanism = new Watched({ causal: inputs.has('in.attn_mask') });
    const module = new MultiHeadAttention({ dModel: d, heads: H, dtype: inputs.dtype, mechanism });
    loadWeights(inputs, module);
    const leaves = weightLeaves(module);
    if (inputs.has('in.x')) {
      const x = inputs.leaf('in.x');
      const found = computed(inputs, { 'out.y': module.forward(x) }, { ...leaves, 'grad.x': x });
      return { ...found, 'out.p': mechanism.probabilities as Tensor };
    }
    const [query, memory] = [inputs.leaf('in.query'), inputs.leaf('in.memory')];
    const lengths = lengthsOf(inputs, 'in.key_padding_mask', 1);
    const outputs = { 'out.y': module.forward(query, { memory, lengths }) };
    const all = { ...leaves, 'grad.query': query, 'grad.memory': memory };
    return { ...computed(inputs, outputs, all), 'out.p': mechanism.probabilities as Tensor };
  },
};

function layerOptions(inputs: CaseInputs) {
  const { d, heads, ff, norm_first: normFirst, activation } = inputs.params<LayerParams>();
  return { dModel: d, heads, feedForward: ff, normFirst, activation, dtype: inputs.dtype };
}

export const encoderLayer: Adapter = {
  mechanism: 'transformer_encoder_layer',
  run(inputs) {
    const module = new EncoderLayer(layerOptions(inputs));
    loadWeights(inputs, module);
    const x = inputs.leaf('in.x');
    const lengths = lengthsOf(inputs, 'in.src_key_padding_mask', 1);
    const leaves = { ...weightLeaves(module), 'grad.x': x };
    return computed(inputs, { 'out.y': module.forward(x, { lengths }) }, leaves);
  },
};

export const decoderLayer: Adapter = {
  mechanism: 'transformer_decoder_layer',
  run(inputs) {
    const module = new DecoderLayer(layerOptions(inputs));
    loadWeights(inputs, module);
    const [target, memory] = [inputs.leaf('in.tgt'), inputs.leaf('in.memory')];
    const memoryLengths = lengthsOf(inputs, 'in.memory_key_padding_mask', 1);
    const leaves = { ...weightLeaves(module), 'grad.tgt': target, 'grad.memory': memory };
    return computed(inputs, { 'out.y': module.forward(target, memory, { memoryLengths }) }, leaves);
  },
};
