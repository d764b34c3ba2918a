import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { duration, integer } from '../values.js';

/** Root of the package: `dist/cli/commands` lies three levels below it. */
const root = join(__dirname, '..', '..', '..');

/** The model and its training, whatever the number of steps. */
export const quickstartRecipe = {
  dim: 128,
  layers: 4,
  heads: 2,
  sequence: 128,
  batch: 16,
  rate: 4e-3,
} as const;

/** `longspan quickstart`, which `npm start` runs: two minutes from nothing to generated text. */
export function quickstartCommand(): Command {
  return new Command('quickstart')
    .summary('train a small model in under two minutes, then write text with it')
    .description(
      'Trains a small byte-level Transformer on the files given, by default on the TypeScript\n' +
        'declaration files under node_modules, shows its validation bits per byte beside those of\n' +
        'unigram and trigram models of the same text, then streams text from it. "npm start" runs this.',
    )
    .argument('[files...]', 'text files or directories to learn from')
    .option(
      '-o, --out <dir>',
      'directory of the run; an earlier quickstart in it is replaced',
      'runs/quickstart',
    )
    .option('-n, --steps <n>', 'optimizer steps', integer({ min: 1 }), 1000)
    .option(
      '--time <duration>',
      'end training this long after the start even if steps are left',
      duration,
      100,
    )
    .option('-s, --seed <n>', 'seed of weights, batches and text', integer({ min: 0 }), 1)
    .option('--tokens <n>', 'bytes of text to write at the end', integer({ min: 0 }), 400)
    .option('--prompt <text>', 'where the text begins', 'export ')
    .addHelpText(
      'after',
      `
Examples:
  npm start                            declaration files of this checkout
  npm start -- book.txt                a text of yours
  npm start -- --steps 50 --time 20s   a quick look`,
    )
    .action(run);
}

interface Flags {
  out: string;
  steps: number;
  time: number;
  seed: number;
  tokens: number;
  prompt: string;
}

async function run(files: string[], flags: Flags): Promise<void> {
  const { FileError, generateText, openRun } = await import('../../index.js');
  const { runLanguageModel } = await import('../language-run.js');
  const { onInterrupt } = await import('../interrupt.js');

  const own = files.length > 0;
  const texts = own ? files.map((file) => resolve(file)) : declarationFolder();
  if (texts === undefined) {
    throw new FileError('quickstart: there is no node_modules with declaration files here', {
      operator: 'quickstart',
      argument: 'files',
      remedy: 'Give a text file: longspan quickstart FILE',
    });
  }
  const say = (line = ''): boolean => process.stderr.write(`${line}\n`);
  say(
    `longspan quickstart: a small Transformer learns ${own ? 'your text' : 'TypeScript declarations'}, byte by byte.\n`,
  );
  const directory = openRun(flags.out);
  for (const name of readdirSync(directory.path)) {
    if (/^(step-\d+|best|model)\.safetensors$/.test(name)) rmSync(join(directory.path, name));
  }
  const prompt = own && flags.prompt === 'export ' ? '\n' : flags.prompt;
  const { model } = await runLanguageModel({
    directory,
    texts,
    extensions: own ? undefined : ['.d.ts'],
    validation: 0.1,
    validationBytes: 100_000,
    recipe: { ...quickstartRecipe, steps: flags.steps, seed: flags.seed },
    deadline: flags.time,
    evaluateEvery: Math.ceil(flags.steps / 4),
    keep: 1,
    notes: { texts, quickstart: true },
  });
  say(`\nText that it writes after ${JSON.stringify(prompt)}:\n`);
  using interrupt = onInterrupt(() => undefined);
  process.stdout.write(prompt);
  const options = {
    maxTokens: flags.tokens,
    temperature: 0.7,
    seed: flags.seed,
    overflow: 'window' as const,
    signal: interrupt.signal,
  };
  for await (const piece of generateText(model, prompt, options)) process.stdout.write(piece);
  process.stdout.write('\n');
  const command = existsSync(join(root, 'tsconfig.json')) ? 'npx longspan' : 'longspan';
  say(
    `\nNext:
  ${command} generate --checkpoint ${flags.out} --prompt "interface "    more text
  ${command} train FILE --time 10m --out runs/mine    a model of your own
  ${command} --help`,
  );
}

/** The folder with packages: that of the checkout, else that of the project this package is in. */
function declarationFolder(): string[] | undefined {
  const folders = [join(root, 'node_modules'), join(process.cwd(), 'node_modules')];
  const found = folders.find((folder) => existsSync(folder));
  return found === undefined ? undefined : [found];
}
