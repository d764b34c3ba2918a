/** Language models in checkpoint files. */

import type { Device } from '../core/device.js';
import { CheckpointError } from '../core/errors.js';
import {
  Reformer,
  RoutingTransformer,
  TransformerLM,
  type TransformerLMConfig,
} from '../models/index.js';
import { type CheckpointInfo, loadCheckpoint, readCheckpointInfo } from './checkpoint.js';

/** Language models by the name a checkpoint knows them under. */
const models: Readonly<
  Record<string, (config: unknown, device: Device | string | undefined) => TransformerLM>
> = {
  TransformerLM: (config, device) =>
    TransformerLM.fromConfig(config as TransformerLMConfig, { device }),
  Reformer: (config, device) => Reformer.fromConfig(config as TransformerLMConfig, { device }),
  RoutingTransformer: (config, device) =>
    RoutingTransformer.fromConfig(config as TransformerLMConfig, { device }),
};

/**
 * Makes the language model that a checkpoint holds and loads its weights.
 *
 * @param device default `cpu`
 * @throws CheckpointError when the file holds another kind of model
 * @throws FileError, FormatError when the file is missing or damaged
 * @example
 * const trained = new TransformerLM({ vocabSize: 256, dModel: 32, layers: 1, heads: 2 });
 * await saveCheckpoint('step-100.safetensors', trained, { step: 100 });
 * const { model, info } = await loadLanguageModel('step-100.safetensors');
 */
export async function loadLanguageModel(
  path: string,
  device?: Device | string,
): Promise<{ model: TransformerLM; info: CheckpointInfo }> {
  const { model: description } = await readCheckpointInfo(path);
  const make = models[description.type];
  if (!make) {
    throw new CheckpointError(`'${path}' holds a ${description.type}, which is no language model`, {
      operator: 'loadLanguageModel',
      argument: 'path',
      value: path,
      remedy: `Give a checkpoint of one of: ${Object.keys(models).join(', ')}`,
    });
  }
  const model = make(description.config, device);
  const info = await loadCheckpoint(path, model);
  return { model, info };
}
