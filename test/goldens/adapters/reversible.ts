import {
  concat,
  div,
  gelu,
  linear,
  matmul,
  maximum,
  mul,
  type ReversibleBlock,
  reversible,
  slice,
  softmax,
  sqrt,
  square,
  sum,
  type Tensor,
  tanh,
  transpose,
  where,
} from 'longspan';
import { type Adapter, type CaseInputs, gradientsOf, notOffered } from '../adapter.js';

/** Causal attention whose keys are its normalised queries, seeing itself only as a last resort. */
function sharedAttention(inputs: CaseInputs, h: Tensor): Tensor {
  const [, n, d] = h.shape as [number, number, number];
  const at = Array.from({ length: n * n }, (_, i) => [Math.floor(i / n), i % n] as const);
  const mask = (of: (row: number, column: number) => boolean) =>
    inputs.make(
      at.map(([row, column]) => Number(of(row, column))),
      [n, n],
      'u8',
    );
  const keys = div(h, maximum(sqrt(sum(square(h), -1, { keepDims: true })), 1e-12));
  const scores = mul(matmul(h, transpose(keys)), d ** -0.5);
  const others = where(
    mask((i, j) => i === j),
    -5e4,
    scores,
  );
  const visible = where(
    mask((i, j) => j > i),
    -1e9,
    others,
  );
  return matmul(softmax(visible), h);
}

export const reversibleBlocks: Adapter = {
  mechanism: 'reversible_block',
  run(inputs) {
    if (inputs.dtype === 'bf16' || inputs.dtype === 'f16')
      return notOffered(
        'inputs restored in 16 bits carry rounding that the case does not allow for',
      );
    const { D, depth } = inputs.params<{ D: number; depth: number }>();
    const leaves: Record<string, Tensor> = {};
    const leaf = (name: string): Tensor => {
      leaves[`grad.${name}`] = inputs.leaf(name);
      return leaves[`grad.${name}`] as Tensor;
    };
    const x = leaf('x');
    const attends = inputs.id === 'reversible_attn';
    const blocks = Array.from({ length: depth }, (_, i): ReversibleBlock => {
      const [w, b] = [leaf(`f${i}.w`), leaf(`f${i}.b`)];
      const [w1, b1, w2, b2] = ['w1', 'b1', 'w2', 'b2'].map((name) => leaf(`g${i}.${name}`)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      return {
        f: (h) => (attends ? sharedAttention(inputs, linear(h, w, b)) : tanh(linear(h, w, b))),
        g: (h) => linear(gelu(linear(h, w1, b1)), w2, b2),
      };
    });
    const { y1, y2 } = reversible(blocks, slice(x, 2, 0, D), slice(x, 2, D));
    const y = concat([y1, y2], 2);
    return { y, ...gradientsOf([[y, inputs.tensor('d_y')]], leaves) };
  },
};
