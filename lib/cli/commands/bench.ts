import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { UnsupportedError } from '../../core/errors.js';
import { exitCode } from '../exit.js';

/** Root of the package: `dist/cli/commands` lies three levels below it. */
const root = join(__dirname, '..', '..', '..');

/** `longspan bench`: the benchmarks of a checkout, with their own options. */
export function benchCommand(): Command {
  return new Command('bench')
    .summary('run the benchmarks of a checkout')
    .description(
      'Measures operators on this machine: time, rate, fraction of the measured ceiling. All options\n' +
        'go to the harness, as with "npm run bench -- OPTIONS". The benchmarks come with the\n' +
        'repository, not with the published package.',
    )
    .argument('[options...]', 'options of the harness; --help prints them after "--"')
    .allowUnknownOption()
    .addHelpText(
      'after',
      `
Examples:
  longspan bench               everything
  longspan bench matmul        benchmarks whose name contains "matmul"
  longspan bench -- --help     options of the harness`,
    )
    .action(async (args: string[]) => {
      if (!existsSync(join(root, 'bench')) || !existsSync(join(root, 'tsconfig.json'))) {
        throw new UnsupportedError('bench: this installation has no benchmarks', {
          operator: 'bench',
          remedy: 'Clone the repository, run npm ci there, then npm run bench',
        });
      }
      process.exitCode = await new Promise<number>((resolve, reject) => {
        const child = spawn('npm', ['run', '--silent', 'bench', '--', ...args], {
          cwd: root,
          stdio: 'inherit',
        });
        child.on('error', reject);
        child.on('exit', (code) => resolve(code ?? exitCode.interrupted));
      });
    });
}
