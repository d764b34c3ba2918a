import { join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import type { LanguageModelName, LanguageRecipe } from '../../index.js';
import { decimal, deviceName, duration, integer } from '../values.js';

/** `longspan train`: a language model from text files. */
export function trainCommand(): Command {
  return new Command('train')
    .summary('train a byte-level language model on text files')
    .description(
      'Trains a byte-level Transformer language model on text files and directories. Some of the text,\n' +
        'whole files where there are several, is held out for validation. The run is saved at every\n' +
        'evaluation; Ctrl-C finishes the step, saves, and --resume goes on bit for bit.',
    )
    .argument('[paths...]', 'text files and directories')
    .option('-o, --out <dir>', 'directory of the run', 'runs/train')
    .option('-r, --resume', 'go on with the run in --out; its own options and text are used again')
    .option('--extensions <list>', 'take only these from directories, for example .md,.txt')
    .option(
      '--validation <x>',
      'share of the text held out',
      decimal({ min: 0.0001, max: 0.9 }),
      0.1,
    )
    .optionsGroup('Model:')
    .addOption(
      new Option('-m, --model <name>', 'architecture')
        .choices(['transformer', 'reformer', 'routing-transformer'])
        .default('transformer'),
    )
    .option('--dim <n>', 'width', integer({ min: 8 }), 256)
    .option('--layers <n>', 'number of layers', integer({ min: 1 }), 4)
    .option(
      '--heads <n>',
      'attention heads; a divisor of --dim (default: --dim / 64)',
      integer({ min: 1 }),
    )
    .option('--sequence <n>', 'bytes it reads', integer({ min: 8 }), 256)
    .option('--dropout <x>', 'probability of dropout', decimal({ min: 0, max: 0.9 }), 0)
    .optionsGroup('Reformer:')
    .option('--rounds <n>', 'hashes of each token (default: 4)', integer({ min: 1 }))
    .option('--chunk <n>', 'sorted tokens that see each other (default: 64)', integer({ min: 1 }))
    .option(
      '--buckets <n>',
      'buckets of a hash, an even number (default: 2 --sequence / --chunk)',
      integer({ min: 2 }),
    )
    .option('--no-reversible', 'keep what layers compute for backward instead of restoring it')
    .optionsGroup('Routing Transformer:')
    .option(
      '--clusters <n>',
      'clusters of a routed head (default: the root of --sequence)',
      integer({ min: 1 }),
    )
    .option(
      '--window <n>',
      'members of its cluster that a token sees (default: --sequence / --clusters)',
      integer({ min: 1 }),
    )
    .option(
      '--routed-heads <n>',
      'routed heads, the others are local (default: half)',
      integer({ min: 1 }),
    )
    .option(
      '--routed-layers <n>',
      'layers with routed heads, from the last (default: all)',
      integer({ min: 1 }),
    )
    .option(
      '--local-window <n>',
      'tokens back that local heads see (default: 256)',
      integer({ min: 1 }),
    )
    .optionsGroup('Training:')
    .option('--batch <n>', 'sequences in a batch', integer({ min: 1 }), 16)
    .option('--accumulate <n>', 'batches in a step', integer({ min: 1 }), 1)
    .option('-n, --steps <n>', 'optimizer steps', integer({ min: 1 }), 1000)
    .option(
      '--time <duration>',
      'end after this time even if steps are left: 90s, 15m, 1h30m',
      duration,
    )
    .option('--lr <x>', 'highest learning rate', decimal({ min: 0 }), 2e-3)
    .option(
      '--warmup <n>',
      'steps of increasing rate (default: 5 % of --steps)',
      integer({ min: 0 }),
    )
    .option('--weight-decay <x>', 'decay of matrices', decimal({ min: 0 }), 0.1)
    .option('--clip <x>', 'largest norm of the gradient', decimal({ min: 1e-9 }), 1)
    .addOption(
      new Option('--dtype <name>', 'of parameters and activations')
        .choices(['f32', 'bf16', 'f16'])
        .default('f32'),
    )
    .option('-d, --device <name>', 'cpu, cuda, cuda:N or auto', deviceName, 'cpu')
    .option('-s, --seed <n>', 'seed of weights, batches and split', integer({ min: 0 }), 0)
    .optionsGroup('Saving:')
    .option('--eval-every <n>', 'steps between evaluations', integer({ min: 1 }), 250)
    .option(
      '--save-every <n>',
      'steps between checkpoints (default: at evaluations)',
      integer({ min: 1 }),
    )
    .option('--keep <n>', 'last checkpoints to keep, beside the best', integer({ min: 1 }), 2)
    .addHelpText(
      'after',
      `
Files in the run's directory: step-N.safetensors (to resume), best.safetensors (smallest validation
loss), model.safetensors (final weights), loss.svg (the curve).

Examples:
  longspan train book.txt
  longspan train docs notes.txt --extensions .md,.txt --steps 4k --time 30m --out runs/docs
  longspan train book.txt --dim 128 --layers 2 --batch 8 --sequence 128    small and quick
  longspan train book.txt --model reformer --sequence 4096 --batch 1       long sequences
  longspan train --resume --out runs/docs --steps 8k                       go on, and longer`,
    )
    .action(run);
}

/** Options as commander parses them. */
interface Flags {
  out: string;
  resume?: boolean;
  extensions?: string;
  validation: number;
  model: LanguageModelName;
  dim: number;
  layers: number;
  heads?: number;
  sequence: number;
  dropout: number;
  rounds?: number;
  chunk?: number;
  buckets?: number;
  reversible: boolean;
  clusters?: number;
  window?: number;
  routedHeads?: number;
  routedLayers?: number;
  localWindow?: number;
  batch: number;
  accumulate: number;
  steps: number;
  time?: number;
  lr: number;
  warmup?: number;
  weightDecay: number;
  clip: number;
  dtype: 'f32' | 'bf16' | 'f16';
  device: string;
  seed: number;
  evalEvery: number;
  saveEvery?: number;
  keep: number;
}

/** What may differ between a run and its resumption; everything else is the run's own. */
const free: readonly string[] = [
  'out',
  'resume',
  'steps',
  'time',
  'device',
  'evalEvery',
  'saveEvery',
  'keep',
];

const ofReformer = ['rounds', 'chunk', 'buckets'] as const;
const ofRouting = ['clusters', 'window', 'routedHeads', 'routedLayers', 'localWindow'] as const;

/** The architecture and the options that belong to it; those of another one are refused. */
function architecture(
  flags: Flags,
  ArgumentError: typeof import('../../index.js').ArgumentError,
): Pick<LanguageRecipe, 'model' | 'options'> {
  const { model } = flags;
  const own: readonly (keyof Flags)[] =
    model === 'reformer' ? ofReformer : model === 'routing-transformer' ? ofRouting : [];
  const given = [...ofReformer, ...ofRouting].filter((name) => flags[name] !== undefined);
  const stray = given.find((name) => !own.includes(name));
  const kept = model !== 'reformer' && flags.reversible === false;
  if (stray || kept) {
    const name = kept
      ? '--no-reversible'
      : `--${stray?.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
    const belongs =
      kept || ofReformer.some((one) => one === stray) ? 'reformer' : 'routing-transformer';
    const remedy = `It belongs to --model ${belongs}`;
    throw new ArgumentError('ERR_OPTION', 'train', name, `for --model ${model}`, remedy);
  }
  const options = Object.fromEntries(given.map((name) => [name, flags[name]]));
  return {
    model,
    options:
      model === 'reformer' ? { ...options, reversible: flags.reversible !== false } : options,
  };
}

async function run(paths: string[], given: Flags, command: Command): Promise<void> {
  const { ArgumentError, CheckpointError, openRun, readCheckpointInfo } = await import(
    '../../index.js'
  );
  const { runLanguageModel } = await import('../language-run.js');

  const directory = openRun(given.out);
  const latest = directory.latest();
  let flags = given;
  let texts = paths.map((path) => resolve(path));
  if (given.resume) {
    if (!latest) {
      throw new CheckpointError(`'${given.out}' holds no run to resume`, {
        argument: '--out',
        value: given.out,
        remedy: 'Give the directory of a run, or leave --resume out to begin one',
      });
    }
    const { notes } = await readCheckpointInfo(latest.path);
    const saved = notes as { flags?: Flags; texts?: string[] } | undefined;
    if (!saved?.flags || !saved.texts) {
      throw new CheckpointError(`'${latest.path}' is not from "longspan train"`, {
        argument: '--out',
        value: given.out,
        remedy: 'Resume it with the program that made it',
      });
    }
    flags = merge(given, saved.flags, command);
    if (texts.length === 0) texts = saved.texts;
  } else if (latest) {
    throw new ArgumentError(
      'ERR_VALUE',
      'train',
      '--out',
      `'${given.out}', which holds a run at step ${latest.step}`,
      'Add --resume to go on with it, or give another directory',
    );
  }
  if (texts.length === 0) {
    throw new ArgumentError(
      'ERR_VALUE',
      'train',
      'paths',
      'empty',
      'Give text files or directories',
    );
  }
  const { heads = Math.max(1, Math.round(flags.dim / 64)) } = flags;
  await runLanguageModel({
    directory,
    texts,
    extensions: flags.extensions?.split(',').filter(Boolean),
    validation: flags.validation,
    recipe: {
      ...architecture(flags, ArgumentError),
      dim: flags.dim,
      layers: flags.layers,
      heads,
      dropout: flags.dropout,
      sequence: flags.sequence,
      batch: flags.batch,
      accumulate: flags.accumulate,
      steps: flags.steps,
      rate: flags.lr,
      warmup: flags.warmup,
      weightDecay: flags.weightDecay,
      clip: flags.clip,
      dtype: flags.dtype,
      seed: flags.seed,
    },
    timeLimit: flags.time,
    device: flags.device,
    evaluateEvery: flags.evalEvery,
    saveEvery: flags.saveEvery,
    keep: flags.keep,
    resume: given.resume ? latest?.path : undefined,
    notes: { flags, texts },
    next: [
      `longspan generate --checkpoint ${given.out} --prompt "..."`,
      `longspan train --resume --out ${given.out} --steps ${flags.steps * 2}`,
      `open ${join(given.out, 'loss.svg')}`,
    ],
  });

  /** The run's own options, with those of this command line that may change. */
  function merge(now: Flags, saved: Flags, from: Command): Flags {
    const merged: Record<string, unknown> = { ...saved };
    for (const [name, value] of Object.entries(now)) {
      if (from.getOptionValueSource(name) !== 'cli') continue;
      if (free.includes(name)) merged[name] = value;
      else if (JSON.stringify(value) !== JSON.stringify(merged[name])) {
        throw new ArgumentError(
          'ERR_OPTION',
          'train',
          name,
          `${String(value)}, but ${String(merged[name])} in the run that is resumed`,
          'Leave it out, or begin another run',
        );
      }
    }
    return merged as unknown as Flags;
  }
}
