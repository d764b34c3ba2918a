import { fromBytes } from '../core/create.js';
import { show as shown } from '../core/declare.js';
import { ArgumentError, CheckpointError } from '../core/errors.js';
import { readSafetensorsFile, type SafetensorsFile } from '../core/safetensors/index.js';
import { readTensor } from '../core/safetensors-tensors.js';
import type { Tensor } from '../core/tensor.js';

const floats: readonly string[] = ['F32', 'F16', 'BF16', 'F64'];
const isWeight = (name: string): boolean => !name.startsWith('optimizer/');

/**
 * The mean of the weights of several checkpoints of one model, which often is better than any of them
 * (Vaswani et al. 2017 average the last 5 or 20). Sums are made in double precision; tensors of
 * integers are taken from the last file.
 *
 * @param paths files of one model, at least one; tensors of optimizers in them are left out
 * @returns tensors by name, f32 (f64 where the files have it): for `model.loadStateDict`
 * @throws CheckpointError when a file lacks a tensor that the first has, or has another shape
 * @throws FileError, FormatError when a file is missing or damaged
 * @example
 * const model = new Linear(4, 2);
 * for (const step of [90, 100]) await saveCheckpoint(`step-${step}.safetensors`, model, { step });
 * model.loadStateDict(await averageCheckpoints(['step-90.safetensors', 'step-100.safetensors']));
 */
export async function averageCheckpoints(
  paths: readonly string[],
): Promise<Record<string, Tensor>> {
  if (!Array.isArray(paths) || paths.length === 0) {
    throw new ArgumentError(
      'ERR_VALUE',
      'averageCheckpoints',
      'paths',
      shown(paths),
      'Give a list with at least one file',
    );
  }
  const files: SafetensorsFile[] = [];
  try {
    for (const path of paths) files.push(await readSafetensorsFile(path));
    checkAlike(files);
    return await meanOf(files);
  } finally {
    for (const file of files) await file.close();
  }
}

function checkAlike(files: readonly SafetensorsFile[]): void {
  const [first] = files;
  for (const file of files) {
    for (const name of new Set([...first.tensors.keys(), ...file.tensors.keys()])) {
      const [a, b] = [first.tensors.get(name), file.tensors.get(name)];
      if (!isWeight(name) || (a && b && String(a.shape) === String(b.shape))) continue;
      const show = (info: typeof a): string => (info ? `[${info.shape.join(', ')}]` : 'missing');
      throw new CheckpointError(
        `averageCheckpoints: '${name}' is ${show(a)} in '${first.path}' and ${show(b)} in '${file.path}'`,
        {
          operator: 'averageCheckpoints',
          argument: 'paths',
          value: file.path,
          remedy: 'Average checkpoints of one run',
        },
      );
    }
  }
}

async function meanOf(files: readonly SafetensorsFile[]): Promise<Record<string, Tensor>> {
  const [first] = files;
  const result: Record<string, Tensor> = {};
  for (const [name, info] of first.tensors) {
    if (!isWeight(name)) continue;
    if (!floats.includes(info.dtype)) {
      result[name] = await readTensor(files[files.length - 1], name);
      continue;
    }
    const sum = new Float64Array(info.shape.reduce((n, d) => n * d, 1));
    for (const file of files) {
      const stored = await readTensor(file, name);
      const wide = stored.to('f64');
      const values = await wide.data();
      for (let i = 0; i < sum.length; i++) sum[i] += values[i] as number;
      if (wide !== stored) wide.dispose();
      stored.dispose();
    }
    const mean = sum.map((value) => value / files.length);
    result[name] =
      info.dtype === 'F64'
        ? fromBytes(mean, info.shape, 'f64', undefined)
        : fromBytes(Float32Array.from(mean), info.shape, 'f32', undefined);
  }
  return result;
}
