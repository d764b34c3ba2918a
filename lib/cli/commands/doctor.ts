import { Command } from 'commander';
import { exitCode } from '../exit.js';

/** `longspan doctor`: what this machine offers and what is missing. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .summary('show what this machine offers and what is missing')
    .description(
      'Shows versions, the native addon, processor, threads, memory and the state of CUDA, with the\n' +
        'cure for what is missing. Ends with code 1 when the addon cannot be loaded.',
    )
    .option('--json', 'print one JSON object instead of lines')
    .addHelpText(
      'after',
      `
Examples:
  longspan doctor
  longspan doctor --json > doctor.json     attach it to a bug report
  LONGSPAN_NUM_THREADS=2 longspan doctor   the effect of a setting`,
    )
    .action(async ({ json }: { json?: boolean }) => {
      const { examine } = await import('../doctor/examine.js');
      const { describe } = await import('../doctor/describe.js');
      const report = await examine();
      process.stdout.write(`${json ? JSON.stringify(report, null, 2) : describe(report)}\n`);
      if (!report.addon.loaded) process.exitCode = exitCode.failed;
    });
}
