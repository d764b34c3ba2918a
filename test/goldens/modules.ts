/** Cases whose system is a module: weights in, gradients of weights out. */
import type { Module, Tensor } from 'longspan';
import { type CaseInputs, type Computed, gradientsOf } from './adapter.js';

/** Turns a parameter's name into another. */
export type Rename = (name: string) => string;

const same: Rename = (name) => name;

/** Loads the inputs below `in.w.` into a module, which goes to where they lie; `ours` turns their names into the module's. */
export function loadWeights(inputs: CaseInputs, module: Module, ours: Rename = same): void {
  const pairs = inputs.names('in.w.').map((full) => [ours(full.slice(5)), inputs.tensor(full)]);
  const first = pairs[0]?.[1] as Tensor | undefined;
  if (first) module.to(first.device);
  module.loadStateDict(Object.fromEntries(pairs) as Record<string, Tensor>);
}

/** Parameters of a module under the names of their gradients; `theirs` turns the module's names into the case's. */
export function weightLeaves(module: Module, theirs: Rename = same): Record<string, Tensor> {
  const pairs = [...module.namedParameters()].map(([name, p]) => [`grad.w.${theirs(name)}`, p]);
  return Object.fromEntries(pairs) as Record<string, Tensor>;
}

/** The case's names by ours, from the function that gives ours for theirs. */
export function inverse(inputs: CaseInputs, ours: Rename): Rename {
  const names = inputs.names('in.w.').map((full) => full.slice(5));
  const theirs = new Map(names.map((name) => [ours(name), name]));
  return (name) => theirs.get(name) ?? name;
}

/**
 * i32 [B] lengths from a padding mask [B, ..., M]; `padding` is what the mask (or a row of ids) holds there, which
 * must stand at the end of rows.
 */
export function lengthsOf(inputs: CaseInputs, name: string, padding: number): Tensor {
  const { shape, data } = inputs.host(name);
  const width = shape.at(-1) as number;
  const lengths = Array.from({ length: data.length / width }, (_, row) => {
    const flags = data.subarray(row * width, (row + 1) * width);
    const end = flags.indexOf(padding);
    if (end >= 0 && flags.subarray(end).some((flag) => flag !== padding))
      throw new Error(`${name} pads elsewhere than at the end of rows`);
    return end < 0 ? width : end;
  });
  return inputs.make(lengths, [lengths.length], 'i32');
}

/**
 * Outputs by name and the gradients of the case's loss: each output times its upstream gradient where
 * it has one, and the output named `loss` itself.
 */
export function computed(
  inputs: CaseInputs,
  outputs: Readonly<Record<string, Tensor>>,
  leaves: Readonly<Record<string, Tensor>>,
): Computed {
  const pairs = Object.entries(outputs).flatMap(([name, output]) => {
    // Losses of 16-bit logits are f32.
    if (name === 'out.loss') {
      const dtype = inputs.dtype === 'f64' ? 'f64' : 'f32';
      return [[output, inputs.make([1], [], dtype)] as const];
    }
    const upstream = name.replace(/^out\./, 'up.');
    return inputs.has(upstream) ? [[output, inputs.tensor(upstream)] as const] : [];
  });
  return { ...outputs, ...gradientsOf(pairs, leaves) };
}
