import {
  add,
  type MechanismContext,
  mul,
  SoftmaxAttention,
  type Tensor,
  Transformer,
  tensor,
} from 'longspan';
import type { Adapter } from '../adapter.js';
import { computed, inverse, loadWeights, type Rename, weightLeaves } from '../modules.js';

interface Params {
  V: number;
  d: number;
  heads: number;
  layers: number;
  ff: number;
  pad: number;
  label_smoothing: number;
  final_layernorm: boolean;
}

/**
 * Causal attention in which queries that are padding attend to all keys that are none, as a boolean
 * mask has it; ours give 0 for them, since nothing reads them. The cases compare these rows too.
 */
export class PaddingAttends extends SoftmaxAttention {
  readonly #full = new SoftmaxAttention();

  constructor() {
    super({ causal: true });
  }

  override forward(q: Tensor, k: Tensor, v: Tensor, context: MechanismContext = {}): Tensor {
    const causal = super.forward(q, k, v, context);
    const { lengths } = context;
    if (!lengths) return causal;
    const n = q.dim(2);
    const padding = [...lengths.dataSync()].flatMap((length) =>
      Array.from({ length: n }, (_, i) => (i < length ? 0 : 1)),
    );
    const mask = tensor(padding, { shape: [q.dim(0), 1, n, 1], dtype: q.dtype, device: q.device });
    return add(causal, mul(this.#full.forward(q, k, v, { lengths }), mask));
  }
}

const ours: Rename = (name) =>
  name
    .replace(/^src_emb\.lut/, 'source_embedding')
    .replace(/^tgt_emb\.lut/, 'target_embedding')
    .replace(/^gen\./, 'generator.')
    .replace(/^tr\./, '');

/** PyTorch's nn.Transformer with embeddings, positions and a label-smoothed loss. */
export const seq2seq: Adapter = {
  mechanism: 'transformer_seq2seq',
  run(inputs) {
    const params = inputs.params<Params>();
    const model = new Transformer({
      ...{ vocabSize: params.V, dModel: params.d, heads: params.heads, feedForward: params.ff },
      ...{ encoderLayers: params.layers, decoderLayers: params.layers, padId: params.pad },
      ...{ labelSmoothing: params.label_smoothing, finalNorm: params.final_layernorm, dropout: 0 },
      ...{ tiedEmbeddings: false, maxLength: 16, dtype: inputs.dtype },
      mechanism: () => new PaddingAttends(),
    });
    loadWeights(inputs, model, ours);
    const [source, target] = [inputs.tensor('in.src'), inputs.tensor('in.tgt_in')];
    const outputs = {
      'out.logits': model.forward(source, target),
      'out.loss': model.loss(source, target, inputs.tensor('in.tgt_out')),
    };
    return computed(inputs, outputs, weightLeaves(model, inverse(inputs, ours)));
  },
};
