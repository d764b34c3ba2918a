/** `npm run goldens -- DIR [DIR...]`: holds the package against folders of golden cases. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { device as deviceOf, writeFileAtomic } from 'longspan';
import { listGoldens, type Precision } from '../goldens.js';
import { root } from '../root.js';
import { adapters } from './adapters/index.js';
import { type Report, runCase } from './runner.js';

const usage = `Usage: npm run goldens -- [DIR...] [options]

Runs every golden case of the folders, by default test/goldens/attention and test/goldens/models, and
prints a row for each. Exits with 1 when a case fails.

Options:
  --device cpu|cuda           where to compute (cpu)
  --dtype f32|f64|bf16|f16    precision to compute in (f32)
  --mechanism a,b             only cases of these mechanisms
  --json FILE                 write the reports there as well
  --help                      this text
`;

const precisions = ['f32', 'f64', 'bf16', 'f16'];

function parse(argv: readonly string[]) {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      device: { type: 'string', default: 'cpu' },
      dtype: { type: 'string', default: 'f32' },
      mechanism: { type: 'string' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (!precisions.includes(values.dtype)) {
    throw new Error(`--dtype is '${values.dtype}': use ${precisions.join(', ')}`);
  }
  const folders =
    positionals.length > 0
      ? positionals
      : ['attention', 'models'].map((name) => join(root, 'test/goldens', name));
  return { ...values, dtype: values.dtype as Precision, folders };
}

/** Worst error in units of its tolerance, and where. */
function worstText({ worst, compared }: Report): string {
  if (compared === 0) return '-';
  if (!worst || worst.ratio === 0) return '0';
  const ratio = worst.ratio < 0.001 ? '<0.001' : worst.ratio.toPrecision(3);
  return `${ratio} ${worst.tensor}[${worst.index.join(',')}]`;
}

/** What is not offered, by reason. */
function reasons({ notOffered }: Report): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const [name, reason] of Object.entries(notOffered)) {
    groups.set(reason, [...(groups.get(reason) ?? []), name]);
  }
  return groups;
}

function print(report: Report, widths: readonly number[]): void {
  const cells = [report.id, report.mechanism, worstText(report)];
  const row = cells.map((cell, i) => cell.padEnd(widths[i])).join('  ');
  console.log(`${row}  ${report.verdict}`);
  for (const failure of report.failures) console.log(`    ${failure}`);
  for (const [reason, names] of reasons(report)) {
    const which = report.verdict === 'skipped' ? '' : `${names.join(', ')} `;
    console.log(`    ${which}not offered: ${reason}`);
  }
}

async function main(argv: readonly string[]): Promise<boolean> {
  const { folders, dtype, device: place, mechanism, json, help } = parse(argv);
  if (help) {
    console.log(usage);
    return true;
  }
  const only = mechanism?.split(',').map((name) => name.trim());
  const device = deviceOf(place);
  const cases = folders.flatMap((folder) => listGoldens(folder).map((id) => ({ folder, id })));
  const widths = [Math.max(...cases.map(({ id }) => id.length)), 41, 32];
  const reports: Report[] = [];
  console.log(`Golden cases in ${dtype} on ${device.name}; errors in units of their tolerance`);
  for (const { folder, id } of cases) {
    const report = await runCase(folder, id, { dtype, device, adapters, only });
    if (!report) continue;
    reports.push(report);
    print(report, widths);
  }
  const missing =
    only?.filter((name) => !reports.some((report) => report.mechanism === name)) ?? [];
  if (missing.length > 0) throw new Error(`no case of the mechanism '${missing.join("', '")}'`);
  const count = (verdict: Report['verdict']): number =>
    reports.filter((report) => report.verdict === verdict).length;
  const summary = {
    passed: count('passed'),
    failed: count('failed'),
    // Parts of a case that are not offered count too: they must not hide behind what passed.
    skipped: reports.reduce((n, report) => n + reasons(report).size, 0),
  };
  if (json !== undefined) {
    const text = JSON.stringify(
      { device: device.name, dtype, ...summary, cases: reports },
      null,
      2,
    );
    await writeFileAtomic(json, `${text}\n`);
  }
  console.log(`${summary.passed} passed, ${summary.failed} failed, ${summary.skipped} skipped`);
  return summary.failed === 0;
}

main(process.argv.slice(2)).then(
  (ok) => {
    process.exitCode = ok ? 0 : 1;
  },
  (error: unknown) => {
    console.error(`goldens: ${error instanceof Error ? error.message : error} (--help shows how)`);
    process.exitCode = 1;
  },
);
