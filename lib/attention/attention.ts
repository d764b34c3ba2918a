/** Exact attention: tiled, never a matrix of scores. */
import { type Context, defineOperator } from '../core/autograd/index.js';
import { field, nativeOperator } from '../core/declare.js';
import type { Generator } from '../core/generator.js';
import { checkOptions } from '../core/options.js';
import type { Tensor } from '../core/tensor.js';
import { squeeze, unsqueeze } from '../core/views.js';
import {
  type AttentionFeatures,
  type AttentionOptions,
  type AttentionProblem,
  drawDropout,
  optionNames,
  problemFields,
  problemOf,
} from './options.js';
import { attentionSupported } from './supported.js';

const forwardCall = nativeOperator('attention', {
  q: field.input,
  k: field.input,
  v: field.input,
  ...problemFields,
  withLse: field.flag,
  o: field.output,
  lse: field.output,
});

const gradientFields = {
  q: field.input,
  k: field.input,
  v: field.input,
  o: field.input,
  lse: field.input,
  gradO: field.optional,
  gradLse: field.optional,
  ...problemFields,
} as const;

const backwardCall = nativeOperator('attentionBackward', {
  ...gradientFields,
  withGradSinks: field.flag,
  gradQ: field.output,
  gradK: field.output,
  gradV: field.output,
  gradSinks: field.output,
});

const biasBackwardCall = nativeOperator('attentionBiasBackward', {
  ...gradientFields,
  gradBias: field.output,
});

/** What is no tensor of a call: one argument, since the tape looks at each. */
interface Call {
  problem: AttentionProblem;
  generator: Generator | undefined;
  returnLse: boolean;
}

interface Recorded {
  problem: AttentionProblem;
  hasBias: boolean;
  hasSinks: boolean;
}

const attentionOperator = defineOperator({
  name: 'attention',
  forward(
    ctx: Context<Recorded>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | null,
    sinks: Tensor | null,
    { problem, generator, returnLse }: Call,
  ): Tensor | [Tensor, Tensor] {
    const recorded = ctx.needs.includes(true);
    const { features } = problem;
    if (features) {
      if (features.dropout > 0) {
        features.dropoutState = drawDropout('attention', q, k, problem.tokenMajor, generator);
        features.made.push(features.dropoutState);
      }
      ctx.own(...features.made);
    }
    // Field by field: spreading the options costs a tenth of the call.
    const { o, lse } = forwardCall({
      q,
      k,
      v,
      keyLengths: problem.keyLengths,
      queryLengths: problem.queryLengths,
      features: features && { ...features, bias, sinks },
      scale: problem.scale,
      softcap: problem.softcap,
      causal: problem.causal,
      windowLeft: problem.windowLeft,
      windowRight: problem.windowRight,
      tokenMajor: problem.tokenMajor,
      withLse: returnLse || recorded,
    });
    if (!recorded) return returnLse ? [o, lse] : o;
    ctx.state = { problem, hasBias: bias !== null, hasSinks: sinks !== null };
    ctx.save(q, k, v, o);
    if (returnLse) ctx.save(lse);
    else ctx.own(lse);
    if (bias) ctx.save(bias);
    if (sinks) ctx.save(sinks);
    if (problem.keyLengths) ctx.save(problem.keyLengths);
    if (problem.queryLengths) ctx.save(problem.queryLengths);
    if (features) ctx.save(...tensorsOf(features));
    return returnLse ? [o, lse] : o;
  },
  backward(ctx, gradO, gradLse) {
    const { problem, hasBias, hasSinks } = ctx.state;
    const { features } = problem;
    const saved = ctx.saved().slice(features?.made.length);
    const [q, k, v, o, lse, ...rest] = saved as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      ...Tensor[],
    ];
    const bias = hasBias ? (rest.shift() as Tensor) : null;
    const sinks = hasSinks ? (rest.shift() as Tensor) : null;
    const given = {
      ...{ q, k, v, o, lse, gradO, gradLse, ...problem },
      features: features && { ...features, bias, sinks },
    };
    const [needsQ, needsK, needsV, needsBias, needsSinks] = ctx.needs;
    const withGradSinks = hasSinks && needsSinks === true;
    const gradBias = hasBias && needsBias ? biasBackwardCall(given).gradBias : null;
    if (!(needsQ || needsK || needsV || withGradSinks)) {
      return [null, null, null, gradBias, null, null];
    }
    const { gradQ, gradK, gradV, gradSinks } = backwardCall({ ...given, withGradSinks });
    return [gradQ, gradK, gradV, gradBias, withGradSinks ? gradSinks : null, null];
  },
}) as (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  bias: Tensor | null,
  sinks: Tensor | null,
  call: Call,
) => Tensor | [Tensor, Tensor];

/** What backward reads beside the operands, but for what the call owns. */
function tensorsOf(features: AttentionFeatures): Tensor[] {
  const { made, dropout: _, maskBlock: __, ...tensors } = features;
  return Object.values(tensors).filter((t) => t !== null && !made.includes(t)) as Tensor[];
}

/**
 * Exact softmax attention, softmax(scale * q k^T + masks) v, tile by tile with a running maximum: memory
 * grows with the sequence, not with its square (Dao et al. 2022). Tiles that masks exclude are skipped.
 *
 * Inputs are read by stride, so permuted views cost no copy. A row that sees no key gives 0, log-sum-exp
 * -Infinity and zero gradients. 16-bit types are computed in f32.
 *
 * @param q queries, [B, Hq, N, D], f32, bf16, f16 or f64; D from 1 to 256; [tokens, Hq, D] with
 *   `cuSeqlens`
 * @param k keys, [B, Hkv, M, D]; Hq must be a multiple of Hkv, and query head h reads key head
 *   floor(h * Hkv / Hq)
 * @param v values, [B, Hkv, M, Dv]; Dv from 1 to 256
 * @returns [B, Hq, N, Dv] in the dtype of `q`; with `returnLse` also the natural logarithm of each row's
 *   sum of exponentials, [B, Hq, N] in f32 (f64 for f64), through which gradients flow as well
 * @throws ArgumentError for shapes, dtypes or options that do not fit; lengths outside their sequence
 *   fail when the operator runs, and whoever reads the result gets that error
 * @example
 * const [q, k, v] = [1, 2, 3].map((seed) => normal([1, 4, 128, 32], { generator: new Generator(seed) }));
 * const y = attention(q, k, v, { causal: true });
 * const [o, lse] = attention(q, k, v, { window: [16, 0], returnLse: true });
 *
 * const packed = normal([100, 4, 32]); // two sequences of 60 and 40 tokens
 * const z = attention(packed, packed, packed, { cuSeqlens: [0, 60, 100], causal: true });
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions & { returnLse: true },
): [output: Tensor, logSumExp: Tensor];
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options?: AttentionOptions & { returnLse?: false },
): Tensor;
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions = {},
): Tensor | [Tensor, Tensor] {
  checkOptions('attention', options, optionNames);
  const packed = options.cuSeqlens !== undefined && q.shape?.length === 3;
  if (packed) return packedAttention(q, k, v, options);
  const problem = problemOf('attention', q, k, options);
  const { bias = null, sinks = null, generator, returnLse = false } = options;
  return attentionOperator(q, k, v, bias, sinks, { problem, generator, returnLse });
}

/**
 * Whether `attention` takes a use of it, or everything that stands against it. Nothing falls back in
 * silence: what this refuses, `attention` refuses.
 *
 * @throws ArgumentError for a misspelt property
 * @example
 * attention.supported({ dtype: 'bf16', headDim: 128, uses: ['causal', 'bias'] }); // { supported: true }
 */
attention.supported = attentionSupported;

/** [tokens, H, D] as a batch of one. */
function packedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions,
): Tensor | [Tensor, Tensor] {
  const [a, b, c] = [q, k, v].map((t) => unsqueeze(t, 0)) as [Tensor, Tensor, Tensor];
  const [o, lse] = attention(a, b, c, { ...options, layout: 'bnhd', returnLse: true });
  if (options.returnLse) return [squeeze(o, 0), squeeze(lse, 0)];
  return squeeze(o, 0);
}
