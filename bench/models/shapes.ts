/** The models whose speed is measured. */
import { Generator, gpt2Presets, TransformerLM } from 'longspan';
import { quickstartRecipe } from '#lib/cli/commands/quickstart';
import { makeLanguageModel } from '#lib/train/train-language-model';
import type { BenchContext } from '../harness/case.js';

export interface BenchModel {
  /** As a person would write it. */
  name: string;
  dtype: 'f32' | 'bf16';
  /** Sequences of a training step, and their length. */
  batch: number;
  length: number;
  /** Learning rate of training. */
  rate: number;
  make(context: BenchContext): TransformerLM;
}

const quickstart = (smoke: boolean): BenchModel => {
  const recipe = smoke
    ? { ...quickstartRecipe, dim: 16, layers: 1, sequence: 16, batch: 2 }
    : quickstartRecipe;
  const { dim, layers, sequence: length, batch, rate } = recipe;
  return {
    name: `quickstart: ${layers} layers, ${dim} wide`,
    ...{ dtype: 'f32', batch, length, rate },
    make: ({ device }) =>
      makeLanguageModel(
        { ...recipe, steps: 1 },
        { device: device.name, generator: new Generator(1, device) },
      ),
  };
};

/** The smallest GPT-2, 124 million parameters, without dropout. */
const gpt2 = (smoke: boolean): BenchModel => {
  const tiny = { vocabSize: 256, dModel: 16, layers: 2, heads: 2, maxLength: 24 };
  const shape = { ...gpt2Presets.small, dropout: 0, ...(smoke && tiny) };
  return {
    name: `GPT-2 small: ${shape.layers} layers, ${shape.dModel} wide`,
    ...{ dtype: 'bf16', batch: smoke ? 1 : 8, length: shape.maxLength, rate: 6e-4 },
    make: ({ device }) =>
      new TransformerLM({ ...shape, dtype: 'bf16', device, generator: new Generator(1, device) }),
  };
};

/** The CPU measures what it trains in minutes; a GPU the smallest GPT-2 beside it. */
export const benchModels = ({ device, smoke }: BenchContext): BenchModel[] =>
  device.type === 'cpu' ? [quickstart(smoke)] : [quickstart(smoke), gpt2(smoke)];
