import { EncoderLayer, gpt2Name, SoftmaxAttention, TransformerLM } from 'longspan';
import type { Adapter } from '../adapter.js';
import { computed, inverse, loadWeights, type Rename, weightLeaves } from '../modules.js';

interface Params {
  V: number;
  d: number;
  heads: number;
  layers: number;
  block_size: number;
}

export const gpt2Block: Adapter = {
  mechanism: 'gpt_2_block',
  run(inputs) {
    const { d, heads } = inputs.params<Params>();
    const module = new EncoderLayer({
      ...{ dModel: d, heads, normFirst: true, activation: 'geluTanh', dtype: inputs.dtype },
      mechanism: new SoftmaxAttention({ causal: true }),
    });
    const ours: Rename = (name) => (gpt2Name(`h.0.${name}`) ?? '').slice('layers.0.'.length);
    loadWeights(inputs, module, ours);
    const x = inputs.leaf('in.x');
    const leaves = { ...weightLeaves(module, inverse(inputs, ours)), 'grad.x': x };
    return computed(inputs, { 'out.y': module.forward(x) }, leaves);
  },
};

export const gpt2LanguageModel: Adapter = {
  mechanism: 'gpt_2_language_model',
  run(inputs) {
    const { V, d, heads, layers, block_size: maxLength } = inputs.params<Params>();
    const model = new TransformerLM({
      ...{ vocabSize: V, dModel: d, heads, layers, maxLength, bias: true, tiedEmbeddings: false },
      ...{ activation: 'geluTanh', norm: 'layer', position: 'learned', dtype: inputs.dtype },
    });
    const ours: Rename = (name) => gpt2Name(name) ?? '';
    loadWeights(inputs, model, ours);
    const [ids, targets] = [inputs.tensor('in.ids'), inputs.tensor('in.targets')];
    const outputs = {
      'out.logits': model.forward(ids),
      'out.loss': model.loss(ids, targets, { ignoreIndex: -1 }),
    };
    return computed(inputs, outputs, weightLeaves(model, inverse(inputs, ours)));
  },
};
