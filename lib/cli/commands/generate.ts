import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { decimal, deviceName, integer } from '../values.js';

interface Flags {
  checkpoint: string;
  prompt: string;
  tokens: number;
  temperature: number;
  topK?: number;
  topP?: number;
  seed: number;
  stop?: string[];
  device: string;
  window?: boolean;
  cache: boolean;
  quiet?: boolean;
}

/** `longspan generate`: text from a trained model, streamed. */
export function generateCommand(): Command {
  return new Command('generate')
    .summary('write text with a trained model')
    .description(
      'Continues a prompt with a model that "longspan train" made, and streams the text to standard\n' +
        'output. The same checkpoint, prompt and seed give the same text.',
    )
    .requiredOption(
      '-c, --checkpoint <path>',
      'a run directory (its best checkpoint) or a .safetensors file',
    )
    .option('-p, --prompt <text>', 'text to continue; "-" reads it from standard input', '\n')
    .option('-n, --tokens <n>', 'bytes to write at most', integer({ min: 0 }), 400)
    .option(
      '-t, --temperature <x>',
      '0 takes the likeliest, 1 samples as trained',
      decimal({ min: 0 }),
      0.8,
    )
    .option('--top-k <n>', 'sample among the n likeliest', integer({ min: 1 }))
    .option(
      '--top-p <x>',
      'sample among the likeliest that make up this probability',
      decimal({ min: 1e-6, max: 1 }),
    )
    .option('-s, --seed <n>', 'seed of the choices', integer({ min: 0 }), 0)
    .option('--stop <text...>', 'end before any of these texts')
    .option('-d, --device <name>', 'cpu, cuda, cuda:N or auto', deviceName, 'cpu')
    .option(
      '--window',
      'beyond the length the model reads, forget the oldest text instead of refusing',
    )
    .addOption(new Option('--no-cache', 'compute everything again for each byte (for comparison)'))
    .option('-q, --quiet', 'print the text alone: neither prompt nor summary')
    .addHelpText(
      'after',
      `
Examples:
  longspan generate -c runs/book -p "Once upon" -n 500
  longspan generate -c runs/book/step-000100.safetensors -t 0 -p "The "    the likeliest text
  cat start.txt | longspan generate -c runs/book -p - --top-p 0.9 --seed 7
  longspan generate -c runs/book --stop $'\\n\\n' -q > paragraph.txt`,
    )
    .action(run);
}

async function run(flags: Flags): Promise<void> {
  const { findCheckpoint, generateText, loadLanguageModel } = await import('../../index.js');
  const { onInterrupt } = await import('../interrupt.js');
  const { formatRate } = await import('../format.js');
  const prompt = flags.prompt === '-' ? readFileSync(0, 'utf8') : flags.prompt;
  const { model } = await loadLanguageModel(findCheckpoint(flags.checkpoint), flags.device);
  using interrupt = onInterrupt(() => undefined);
  const { stdout, stderr } = process;
  if (!flags.quiet && flags.prompt !== '-') stdout.write(prompt);
  const start = performance.now();
  let bytes = 0;
  const options = {
    maxTokens: flags.tokens,
    temperature: flags.temperature,
    topK: flags.topK,
    topP: flags.topP,
    seed: flags.seed,
    stop: flags.stop,
    useCache: flags.cache,
    overflow: flags.window ? ('window' as const) : ('refuse' as const),
    signal: interrupt.signal,
  };
  for await (const piece of generateText(model, prompt, options)) {
    bytes += Buffer.byteLength(piece);
    if (!stdout.write(piece)) await new Promise((resolve) => stdout.once('drain', resolve));
  }
  stdout.write('\n');
  const seconds = (performance.now() - start) / 1000;
  if (!flags.quiet) {
    stderr.write(
      `${bytes} bytes in ${seconds.toFixed(1)}s, ${formatRate(bytes / seconds, 'byte')}\n`,
    );
  }
}
