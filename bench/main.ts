/** The benchmarks' command line: `npm run bench -- --help`. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { device as deviceOf, renderCurveSvg } from 'longspan';
import type { BenchCase, BenchContext, BenchGroup } from './harness/case.js';
import { type PeerRow, readPeerRows, unmatched, withPeers } from './harness/peers.js';
import { type BenchFile, merge } from './harness/result.js';
import { runCases } from './harness/run.js';
import { formatRow, header } from './harness/table.js';

const help = `npm run bench -- [NAME...] [OPTIONS]

Runs the benchmarks whose file name contains one of NAME (default: all), prints a row per case, and
writes everything to a file of bench/results named after the machine.

  --device DEVICE   cpu (default), cuda or cuda:N
  --rounds N        interleaved rounds, of which the median counts; default 9
  --quick           3 rounds with short samples
  --cold-l2         on a GPU, rows bound by memory begin with nothing of use in its L2, and say so
  --smoke           tiny shapes and one round, to see that everything runs; writes only with --out
  --out FILE        where to write
  --merge           keep rows of that file that are not measured this time
  --peer-rows FILE  what other libraries took, set beside the rows; its form: bench/harness/peers.ts
  --help            this text`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      device: { type: 'string', default: 'cpu' },
      rounds: { type: 'string', default: '9' },
      smoke: { type: 'boolean', default: false },
      'cold-l2': { type: 'boolean', default: false },
      'peer-rows': { type: 'string' },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
      merge: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(help);
  const rounds = values.smoke ? 1 : values.quick ? 3 : Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) {
    throw new Error(`--rounds is '${values.rounds}'; use a whole number from 1 on`);
  }
  const peers: PeerRow[] = values['peer-rows'] ? readPeerRows(values['peer-rows']) : [];
  const context: BenchContext = { device: deviceOf(values.device), smoke: values.smoke };
  const groups = await loadGroups(positionals);
  const cases: BenchCase[] = [];
  for (const group of groups) cases.push(...(await group.cases(context)));

  console.log(header);
  const file = await runCases(cases, context, {
    rounds,
    sampleSeconds: values.smoke ? 0 : values.quick ? 0.02 : 0.1,
    coldL2: values['cold-l2'],
    finish: (row) => withPeers(row, peers),
    onRow: (row) => console.log(formatRow(row)),
  });
  for (const [threads, rates] of Object.entries(file.ceilings)) {
    const texts = Object.entries(rates).map(([name, rate]) =>
      name === 'copy'
        ? `${(rate / 1e9).toFixed(1)} GB/s copy`
        : `${(rate / 1e9).toFixed(0)} GFLOP/s ${name}`,
    );
    console.log(
      `ceiling on ${threads === '0' ? context.device.name : `${threads} thr`}: ${texts.join(', ')}`,
    );
  }
  for (const peer of unmatched(file.rows, peers)) console.log(`no case for ${peer}`);
  if (values.smoke && !values.out) return;
  const root = path.resolve(__dirname, '../..');
  const machine = (file.machine.gpu ?? cpus()[0]?.model ?? 'cpu')
    .trim()
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-');
  const suffix = positionals.length > 0 ? `-${positionals.join('-')}` : '';
  const out = path.resolve(
    values.out ??
      path.join(
        root,
        'bench/results',
        `${machine}${file.machine.gpu ? '' : `-${file.machine.threads}cpu`}${suffix}.json`,
      ),
  );
  mkdirSync(path.dirname(out), { recursive: true });
  const earlier =
    values.merge && existsSync(out) ? (JSON.parse(readFileSync(out, 'utf8')) as BenchFile) : null;
  const result = earlier ? merge(earlier, file) : file;
  for (const { figures } of groups) {
    if (figures) result.figures = { ...result.figures, ...figures(result.rows) };
  }
  writeFileSync(out, `${JSON.stringify(result, null, 1)}\n`);
  console.log(`written to ${path.relative(process.cwd(), out)}`);
  for (const { pictures } of groups) {
    for (const [name, curves] of Object.entries(pictures?.(result.rows, context) ?? {})) {
      const at = out.replace(/(\.json)?$/, `-${name}.svg`);
      writeFileSync(at, renderCurveSvg(curves));
      console.log(`written to ${path.relative(process.cwd(), at)}`);
    }
  }
}

async function loadGroups(names: readonly string[]): Promise<BenchGroup[]> {
  const files = readdirSync(__dirname, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.bench.js'))
    .sort();
  const groups: BenchGroup[] = [];
  for (const file of files) {
    const module = (await import(path.join(__dirname, file))) as {
      default: { default?: BenchGroup } & BenchGroup;
    };
    const group = module.default.default ?? module.default;
    if (names.length === 0 || names.some((name) => file.includes(name))) groups.push(group);
  }
  if (groups.length === 0) {
    throw new Error(
      `no benchmark matches ${names.join(', ')}; there are: ${files.map((f) => f.replace('.bench.js', '')).join(', ')}`,
    );
  }
  return groups;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
