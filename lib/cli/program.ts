/** The command line `longspan`. Commands load the library only when they run, so help is instant. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { benchCommand } from './commands/bench.js';
import { doctorCommand } from './commands/doctor.js';
import { generateCommand } from './commands/generate.js';
import { quickstartCommand } from './commands/quickstart.js';
import { trainCommand } from './commands/train.js';
import { describeFailure, exitCode, isAbort } from './exit.js';

/** Version of the installed package. */
export function packageVersion(): string {
  const file = join(__dirname, '..', '..', 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function program(): Command {
  const command = new Command('longspan')
    .description(
      'Long-sequence transformers on Node.js: train a language model, write text with it.',
    )
    .version(packageVersion(), '-v, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help of a command')
    .addHelpText(
      'after',
      `
Examples:
  longspan doctor                                  what this machine offers
  longspan train book.txt --time 5m --out runs/book
  longspan generate --checkpoint runs/book --prompt "Once"

Exit codes: 0 done, 1 failed, 2 command line not understood, 130 interrupted (work is saved).
LONGSPAN_NUM_THREADS limits the threads; LONGSPAN_DEBUG=1 adds stacks to error messages.`,
    );
  const commands = [doctorCommand, trainCommand, generateCommand, benchCommand, quickstartCommand];
  for (const make of commands) command.addCommand(make());
  for (const one of [command, ...command.commands]) {
    one.exitOverride().showHelpAfterError(`(see: ${fullName(one)} --help)`);
    one.configureOutput({
      outputError: (text, write) => write(`longspan: ${text.replace(/^error: /, '')}`),
    });
  }
  return command;
}

function fullName(command: Command): string {
  return command.parent ? `${command.parent.name()} ${command.name()}` : command.name();
}

/**
 * Runs a command line.
 *
 * @param args arguments without node and script
 * @returns the exit code
 */
export async function run(args: readonly string[]): Promise<number> {
  // A reader such as `head` that has seen enough is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(exitCode.ok);
    throw error;
  });
  try {
    await program().parseAsync([...args], { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : exitCode.ok;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
    process.stderr.write(`${describeFailure(error)}\n`);
    return isAbort(error) ? exitCode.interrupted : exitCode.failed;
  }
}
